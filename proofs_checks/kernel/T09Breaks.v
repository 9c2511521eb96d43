(** T09. Optimizers that do not conserve the class sums. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T01 T02 T03 T09.
Open Scope R_scope.

(** * Optimizers that break the law *)

(** The first step of Adam divides each component by its absolute value plus [eps]. With
    [eps = 0] this is sign descent, the first step of Lion. *)
Definition adam_step (eps : R) (g : vec) : vec := fun k => g k / (Rabs (g k) + eps).

(** T09: with three classes, it changes the class sums: with cross-entropy, from equal
    logits. The classifier is a bias, whose gradient is that of the logits. *)
Theorem adam_breaks :
  forall eps eta g, 0 <= eps -> eta <> 0 ->
    gradient_at 2 (fun z => cross_entropy 2 z 0) (fun _ => 0) g ->
    total 2 g = 0 /\ total 2 (fun k => 0 - eta * adam_step eps g k) <> 0.
Proof.
  intros eps eta g Heps Heta Hg.
  assert (P : forall k, softmax 2 1 (fun _ => 0) k = 1 / 3).
  { intros k. unfold softmax. simpl. replace (0 / 1) with 0 by field.
    rewrite exp_0. field. }
  assert (G : forall k, (k <= 2)%nat -> g k = 1 / 3 - onehot 0 k).
  { intros k Hk. rewrite <- (P k). eapply uniqueness_limite; [apply (Hg k Hk)|].
    apply cross_entropy_gradient; lia. }
  assert (G0 : g 0%nat = - (2 / 3)) by (rewrite G by lia; unfold onehot; simpl; lra).
  assert (G1 : g 1%nat = 1 / 3) by (rewrite G by lia; unfold onehot; simpl; lra).
  assert (G2 : g 2%nat = 1 / 3) by (rewrite G by lia; unfold onehot; simpl; lra).
  split; simpl; [lra|]. unfold adam_step. rewrite G0, G1, G2.
  rewrite Rabs_Ropp, !Rabs_pos_eq by lra.
  replace (0 - eta * (- (2 / 3) / (2 / 3 + eps)) + (0 - eta * (1 / 3 / (1 / 3 + eps)))
           + (0 - eta * (1 / 3 / (1 / 3 + eps))))
    with (- eta * (2 / 9 / ((1 / 3 + eps) * (2 / 3 + eps))) ) by (field; lra).
  apply Rmult_integral_contrapositive_currified; [lra|].
  apply Rgt_not_eq, Rdiv_lt_0_compat; [lra|]. apply Rmult_lt_0_compat; lra.
Qed.
