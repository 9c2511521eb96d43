(** T11. Decoupling.

    For a class y, the loss is [TCKD + (1 - p_y) NCKD]: the divergence between the two
    predictions of "y or not y", and the divergence between the predictions among the
    other classes, with the teacher's probability of "not y" as its weight. Both parts
    contain the factor [T ^ 2] of the loss. *)

From Coq Require Import Reals Lra Lia.
From Kernel Require Import Defs Sums.
Open Scope R_scope.

(** The divergence between the predictions of "y or not y". *)
Definition target_kl (p q : vec) (y : nat) : R :=
  p y * ln (p y / q y) + (1 - p y) * ln ((1 - p y) / (1 - q y)).

(** A prediction among the classes other than y, and the divergence between two. *)
Definition others (p : vec) (y : nat) : vec := fun k => p k / (1 - p y).
Definition other_kl (n : nat) (p q : vec) (y : nat) : R :=
  total n (fun k => if Nat.eqb k y then 0
                    else others p y k * ln (others p y k / others q y k)).

(** The probabilities of the other classes sum to one. *)
Lemma others_total n p y :
  (y <= n)%nat -> total n p = 1 -> p y < 1 ->
  total n (fun k => if Nat.eqb k y then 0 else others p y k) = 1.
Proof.
  intros Hy Hp H. rewrite (total_without n y p Hy) in Hp.
  rewrite (total_ext n _ (fun k => / (1 - p y) * (if Nat.eqb k y then 0 else p k)))
    by (intros k _; unfold others, Rdiv; destruct (Nat.eqb k y); ring).
  rewrite total_scal_l.
  replace (total n (fun k => if Nat.eqb k y then 0 else p k)) with (1 - p y) by lra.
  field; lra.
Qed.

(** With at least two classes, no prediction is certain. *)
Lemma softmax_lt_1 n T z y : (1 <= n)%nat -> (y <= n)%nat -> softmax n T z y < 1.
Proof.
  intros Hn Hy. rewrite <- (softmax_total n T z), (total_without n y) by exact Hy.
  set (k := if Nat.eqb y 0 then 1%nat else 0%nat).
  assert (Hk : (k <= n)%nat /\ Nat.eqb k y = false).
  { unfold k. destruct (Nat.eqb_spec y 0) as [->|N]; [split; [lia|reflexivity]|].
    split; [lia|]. destruct (Nat.eqb_spec 0 y); [lia|reflexivity]. }
  set (w := fun j => if Nat.eqb j y then 0 else softmax n T z j).
  assert (P : w k <= total n w).
  { apply term_le_total; [|apply Hk]. intros j _. unfold w.
    pose proof (softmax_pos n T z j). destruct (Nat.eqb j y); lra. }
  unfold w at 1 in P. rewrite (proj2 Hk) in P. pose proof (softmax_pos n T z k). lra.
Qed.

(** The chain rule of relative entropy. *)
Lemma kl_decoupled n p q y :
  (y <= n)%nat -> total n p = 1 ->
  (forall k, 0 < p k) -> (forall k, 0 < q k) -> p y < 1 -> q y < 1 ->
  kl n p q = target_kl p q y + (1 - p y) * other_kl n p q y.
Proof.
  intros Hy Hp P Q Py Qy. unfold kl. rewrite (total_without n y _ Hy).
  unfold target_kl, other_kl. rewrite <- total_scal_l.
  set (w := ln ((1 - p y) / (1 - q y))).
  rewrite (total_ext n _ (fun k => w * (if Nat.eqb k y then 0 else p k)
    + (1 - p y) * (if Nat.eqb k y then 0
                   else others p y k * ln (others p y k / others q y k)))).
  - rewrite total_plus, total_scal_l. rewrite (total_without n y p Hy) in Hp.
    replace (total n (fun k => if Nat.eqb k y then 0 else p k)) with (1 - p y) by lra.
    ring.
  - intros k _. destruct (Nat.eqb k y); [ring|].
    replace (p k / q k)
      with (((1 - p y) / (1 - q y)) * (others p y k / others q y k)).
    + assert (O : 0 < others p y k / others q y k).
      { apply Rdiv_lt_0_compat; apply Rdiv_lt_0_compat; auto; lra. }
      rewrite ln_mult by (trivial; apply Rdiv_lt_0_compat; lra).
      fold w. unfold others at 3. field; lra.
    + specialize (Q k). unfold others. field. repeat split; lra.
Qed.

(** T11: the loss is the target part and the weighted part of the other classes. *)
Theorem kd_decoupled :
  forall n T z v y, (1 <= n)%nat -> (y <= n)%nat ->
    let p := softmax n T v in
    let q := softmax n T z in
    kd n T z v = T ^ 2 * target_kl p q y + (1 - p y) * (T ^ 2 * other_kl n p q y).
Proof.
  intros n T z v y Hn Hy p q. unfold kd. fold p q.
  rewrite (kl_decoupled n p q y Hy); [ring|apply softmax_total|..];
    intros; (apply softmax_pos || apply softmax_lt_1; assumption).
Qed.
