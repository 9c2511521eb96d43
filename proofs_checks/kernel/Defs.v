(** The definitions that every theorem in this folder is about.

    There are [S n] classes, numbered 0 to n, so that there is always at least one.
    Vectors of logits are functions of the class; values beyond n are never read.
    All numbers are real numbers, without rounding. *)

From Coq Require Import Reals.
Open Scope R_scope.

Definition vec := nat -> R.

(** The sum over the classes 0 to n. *)
Fixpoint total (n : nat) (x : vec) : R :=
  match n with
  | O => x O
  | S m => total m x + x (S m)
  end.

(** The number of classes, as a real number. *)
Definition classes (n : nat) : R := INR (S n).

(** Mean and population variance over the classes, with uniform weights. *)
Definition mean (n : nat) (x : vec) : R := total n x / classes n.
Definition variance (n : nat) (x : vec) : R :=
  mean n (fun k => (x k - mean n x) ^ 2).

(** Mean and variance under weights [p] that sum to one. *)
Definition expectation (n : nat) (p x : vec) : R := total n (fun k => p k * x k).
Definition variance_under (n : nat) (p x : vec) : R :=
  expectation n p (fun k => (x k - expectation n p x) ^ 2).

(** The predictions at temperature [T]. *)
Definition softmax (n : nat) (T : R) (z : vec) (k : nat) : R :=
  exp (z k / T) / total n (fun j => exp (z j / T)).

(** Kullback-Leibler divergence of [q] from [p]: KL(p || q). *)
Definition kl (n : nat) (p q : vec) : R :=
  total n (fun k => p k * ln (p k / q k)).

(** Knowledge distillation from the teacher's logits [v] to the student's logits [z]:
    [losses.soft_target_kl] at a finite temperature. *)
Definition kd (n : nat) (T : R) (z v : vec) : R :=
  T ^ 2 * kl n (softmax n T v) (softmax n T z).

(** Logits matching, [losses.logit_matching], and the gap of the means,
    [losses.mean_gap]. *)
Definition matching (n : nat) (z v : vec) : R :=
  mean n (fun k => (z k - v k) ^ 2) / 2.
Definition gap (n : nat) (z v : vec) : R :=
  (mean n (fun k => z k - v k)) ^ 2 / 2.

(** Cross-entropy with the label [y]. *)
Definition cross_entropy (n : nat) (z : vec) (y : nat) : R :=
  - ln (softmax n 1 z y).

(** [within n x r]: the values of [x] differ by at most [r]. *)
Definition within (n : nat) (x : vec) (r : R) : Prop :=
  forall j k, (j <= n)%nat -> (k <= n)%nat -> x j - x k <= r.

(** [z] with the number [t] added to class [k]: partial derivatives are derivatives
    in [t] at 0. *)
Definition bump (z : vec) (k : nat) (t : R) : vec :=
  fun j => if Nat.eqb j k then z j + t else z j.

(** [z] with the number [c] added to every class. *)
Definition shift (z : vec) (c : R) : vec := fun j => z j + c.

(** [gradient_at n f z g]: for every class, the partial derivative of [f] at [z]
    exists and is the component of [g]. *)
Definition partial_at (f : vec -> R) (z : vec) (k : nat) (g : R) : Prop :=
  derivable_pt_lim (fun t => f (bump z k t)) 0 g.
Definition gradient_at (n : nat) (f : vec -> R) (z g : vec) : Prop :=
  forall k, (k <= n)%nat -> partial_at f z k (g k).

(** Top-k distillation, [losses.sparse_soft_target_kl]: the classes for which [keep]
    is false count as one class, with the sum of their probabilities. *)
Definition kept (keep : nat -> bool) (x : vec) : vec :=
  fun k => if keep k then x k else 0.
Definition rest (keep : nat -> bool) (x : vec) : vec :=
  fun k => if keep k then 0 else x k.
Definition sparse_kl (n : nat) (keep : nat -> bool) (p q : vec) : R :=
  total n (kept keep (fun k => p k * ln (p k / q k)))
  + total n (rest keep p) * ln (total n (rest keep p) / total n (rest keep q)).
Definition sparse_kd (n : nat) (T : R) (keep : nat -> bool) (z v : vec) : R :=
  T ^ 2 * sparse_kl n keep (softmax n T v) (softmax n T z).
