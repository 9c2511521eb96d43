(** What the theorems about single outputs of the library need.

    The files beside this one state how far an output is from the number that the
    definitions describe. Logits and outputs are written with hexadecimal digits, as
    Python's [float.hex] writes them: nothing is rounded. *)

From Coq Require Export Reals List Lra.
From Coq Require Import Lia.
From Interval Require Import Tactic.
From Kernel Require Export Defs.
From Kernel Require Import Sums T01.
Export ListNotations.
Open Scope R_scope.

(** Logits from a list. *)
Definition logits (x : list R) : vec := fun k => nth k x 0.

(** Each component of the gradient of [f] at [z] is within [eps] of that of [g]. *)
Definition gradient_within (n : nat) (f : vec -> R) (z g : vec) (eps : R) : Prop :=
  exists h, gradient_at n f z h
            /\ forall k, (k <= n)%nat -> Rabs (h k - g k) <= eps.

(** The loss with an exponential for each logit and two logarithms. The definition
    divides in every term, which would make the expression as long as the square of the
    number of classes. *)
Lemma kd_linear n T z v : 0 < T ->
  kd n T z v =
  T * (total n (fun k => exp (v k / T) * (v k - z k))
       / total n (fun k => exp (v k / T)))
  + T ^ 2 * (ln (total n (fun k => exp (z k / T)))
             - ln (total n (fun k => exp (v k / T)))).
Proof.
  intros HT. unfold kd. rewrite kl_softmax. unfold log_total, expectation, softmax.
  pose proof (total_exp_neq n (fun k => v k / T)).
  set (V := total n (fun k => exp (v k / T))) in *.
  rewrite (total_ext n _ (fun k => / (T * V) * (exp (v k / T) * (v k - z k))))
    by (intros; field; lra).
  rewrite total_scal_l. field; lra.
Qed.

Lemma kd_gradient_within n T z v g eps : 0 < T ->
  (forall k, (k <= n)%nat -> Rabs (T * (softmax n T z k - softmax n T v k) - g k) <= eps) ->
  gradient_within n (fun x => kd n T x v) z g eps.
Proof.
  intros HT H. exists (fun k => T * (softmax n T z k - softmax n T v k)).
  split; [apply kd_gradient; lra | exact H].
Qed.

(** Intervals with 160 binary digits: at T = 100, 15 of them cancel. *)
Ltac compute_bound := cbv [total softmax logits nth]; interval with (i_prec 160).

Ltac limit_bound := rewrite variance_moments; cbv [mean classes]; simpl INR; compute_bound.

Ltac value_bound := rewrite kd_linear by lra; compute_bound.

(** One class after the other, until none is left. *)
Ltac each_class :=
  tryif (intros; lia) then idtac
  else let k := fresh in intros [|k]; [intros _; compute_bound | revert k; each_class].

Ltac gradient_bound := apply kd_gradient_within; [lra | each_class].
