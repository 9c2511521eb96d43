(** Lemmas about [total], [mean], [expectation] and [softmax] that all theorems use. *)

From Coq Require Import Reals Lra Lia Arith.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs.
Open Scope R_scope.

(** * Sums over the classes *)

Lemma total_ext n x y :
  (forall k, (k <= n)%nat -> x k = y k) -> total n x = total n y.
Proof.
  induction n as [|n IH]; intros H; simpl.
  - apply H; lia.
  - rewrite IH, (H (S n)); auto.
Qed.

Lemma total_plus n x y : total n (fun k => x k + y k) = total n x + total n y.
Proof. induction n as [|n IH]; simpl; [|rewrite IH]; ring. Qed.

Lemma total_minus n x y : total n (fun k => x k - y k) = total n x - total n y.
Proof. induction n as [|n IH]; simpl; [|rewrite IH]; ring. Qed.

Lemma total_opp n x : total n (fun k => - x k) = - total n x.
Proof. induction n as [|n IH]; simpl; [|rewrite IH]; ring. Qed.

Lemma total_scal_l n c x : total n (fun k => c * x k) = c * total n x.
Proof. induction n as [|n IH]; simpl; [|rewrite IH]; ring. Qed.

Lemma total_scal_r n c x : total n (fun k => x k * c) = total n x * c.
Proof. induction n as [|n IH]; simpl; [|rewrite IH]; ring. Qed.

Lemma total_div n c x : total n (fun k => x k / c) = total n x / c.
Proof. apply total_scal_r. Qed.

Lemma total_const n c : total n (fun _ => c) = classes n * c.
Proof.
  unfold classes; induction n as [|n IH]; [simpl; ring|].
  rewrite S_INR; simpl total; rewrite IH; ring.
Qed.

Lemma total_zero n : total n (fun _ => 0) = 0.
Proof. rewrite total_const; ring. Qed.

(** Two sums may be exchanged. *)
Lemma total_swap n m (a : nat -> nat -> R) :
  total n (fun j => total m (fun k => a j k))
  = total m (fun k => total n (fun j => a j k)).
Proof.
  induction n as [|n IH]; simpl; [reflexivity|].
  rewrite IH, <- total_plus; reflexivity.
Qed.

(** A sum whose terms beside [j] are zero. *)
Lemma total_single n j x :
  (j <= n)%nat -> total n (fun k => if Nat.eqb k j then x k else 0) = x j.
Proof.
  induction n as [|n IH]; intros Hj; cbn [total].
  - replace j with 0%nat by lia; reflexivity.
  - destruct (Nat.eqb_spec (S n) j) as [E|E].
    + subst j. rewrite (total_ext n _ (fun _ => 0)), total_zero; [ring|].
      intros k Hk. destruct (Nat.eqb_spec k (S n)); [lia|reflexivity].
    + rewrite IH by lia; ring.
Qed.

Lemma total_onehot n j (x : vec) :
  (j <= n)%nat -> total n (fun k => x k * (if Nat.eqb k j then 1 else 0)) = x j.
Proof.
  intros Hj. rewrite <- (total_single n j x Hj). apply total_ext; intros k _.
  destruct (Nat.eqb k j); ring.
Qed.

(** A sum is the term of [j] and the sum of the other terms. *)
Lemma total_without n j x :
  (j <= n)%nat -> total n x = x j + total n (fun k => if Nat.eqb k j then 0 else x k).
Proof.
  intros Hj. rewrite <- (total_single n j x Hj), <- total_plus.
  apply total_ext; intros k _. destruct (Nat.eqb k j); ring.
Qed.

(** * Order *)

Lemma total_le n x y :
  (forall k, (k <= n)%nat -> x k <= y k) -> total n x <= total n y.
Proof.
  induction n as [|n IH]; intros H; simpl.
  - apply H; lia.
  - apply Rplus_le_compat; auto.
Qed.

Lemma total_lt n x y :
  (forall k, (k <= n)%nat -> x k < y k) -> total n x < total n y.
Proof.
  induction n as [|n IH]; intros H; simpl.
  - apply H; lia.
  - apply Rplus_lt_compat; auto.
Qed.

Lemma total_nonneg n x : (forall k, (k <= n)%nat -> 0 <= x k) -> 0 <= total n x.
Proof. intros H. rewrite <- (total_zero n). apply total_le; exact H. Qed.

Lemma total_pos n x : (forall k, (k <= n)%nat -> 0 < x k) -> 0 < total n x.
Proof. intros H. rewrite <- (total_zero n). apply total_lt; exact H. Qed.

Lemma term_le_total n x j :
  (forall k, (k <= n)%nat -> 0 <= x k) -> (j <= n)%nat -> x j <= total n x.
Proof.
  intros H Hj. rewrite (total_without n j x Hj).
  enough (0 <= total n (fun k => if Nat.eqb k j then 0 else x k)) by lra.
  apply total_nonneg; intros k Hk. destruct (Nat.eqb k j); [lra|auto].
Qed.

(** A sum of non-negative terms is zero only if every term is. *)
Lemma total_zero_terms n x :
  (forall k, (k <= n)%nat -> 0 <= x k) -> total n x = 0 ->
  forall k, (k <= n)%nat -> x k = 0.
Proof.
  intros H H0 k Hk. pose proof (term_le_total n x k H Hk). pose proof (H k Hk). lra.
Qed.

Lemma total_abs n x : Rabs (total n x) <= total n (fun k => Rabs (x k)).
Proof.
  induction n as [|n IH]; simpl; [lra|].
  eapply Rle_trans; [apply Rabs_triang|lra].
Qed.

Lemma classes_pos n : 0 < classes n.
Proof. unfold classes. apply lt_0_INR; lia. Qed.

Lemma classes_neq n : classes n <> 0.
Proof. pose proof (classes_pos n); lra. Qed.

Lemma classes_ge_1 n : 1 <= classes n.
Proof. unfold classes. rewrite S_INR. pose proof (pos_INR n); lra. Qed.

(** * Derivatives and limits of sums *)

Lemma is_derive_total n (f : R -> vec) (g : vec) t :
  (forall k, (k <= n)%nat -> is_derive (fun s => f s k) t (g k)) ->
  is_derive (fun s => total n (f s)) t (total n g).
Proof.
  induction n as [|n IH]; intros H; simpl.
  - apply H; lia.
  - apply (is_derive_plus (fun s => total n (f s)) (fun s => f s (S n))); auto.
Qed.

Lemma derivable_total n (f : R -> vec) (g : vec) t :
  (forall k, (k <= n)%nat -> derivable_pt_lim (fun s => f s k) t (g k)) ->
  derivable_pt_lim (fun s => total n (f s)) t (total n g).
Proof.
  intros H. apply is_derive_Reals, is_derive_total.
  intros k Hk. apply is_derive_Reals; auto.
Qed.

Lemma is_lim_total n (f : R -> vec) (l : vec) (t : Rbar) :
  (forall k, (k <= n)%nat -> is_lim (fun s => f s k) t (l k)) ->
  is_lim (fun s => total n (f s)) t (total n l).
Proof.
  induction n as [|n IH]; intros H; simpl.
  - apply H; lia.
  - apply (is_lim_plus' (fun s => total n (f s)) (fun s => f s (S n))); auto.
Qed.

Lemma continuous_total n (f : R -> vec) t :
  (forall k, (k <= n)%nat -> continuous (fun s => f s k) t) ->
  continuous (fun s => total n (f s)) t.
Proof.
  induction n as [|n IH]; intros H; simpl.
  - apply H; lia.
  - apply (continuous_plus (fun s => total n (f s)) (fun s => f s (S n))); auto.
Qed.

(** * Mean, expectation and variance *)

Lemma mean_ext n x y : (forall k, (k <= n)%nat -> x k = y k) -> mean n x = mean n y.
Proof. intros H. unfold mean. rewrite (total_ext n x y H). reflexivity. Qed.

Lemma mean_minus n x y : mean n (fun k => x k - y k) = mean n x - mean n y.
Proof. unfold mean. rewrite total_minus. pose proof (classes_neq n). field; auto. Qed.

Lemma total_mean n x : total n x = classes n * mean n x.
Proof. unfold mean. pose proof (classes_neq n). field; auto. Qed.

Lemma total_centered n x : total n (fun k => x k - mean n x) = 0.
Proof. rewrite total_minus, total_const, total_mean. ring. Qed.

Lemma variance_nonneg n x : 0 <= variance n x.
Proof.
  unfold variance, mean at 1. pose proof (classes_pos n).
  apply Rdiv_le_0_compat; [|auto]. apply total_nonneg; intros; apply pow2_ge_0.
Qed.

(** The variance is the second moment minus the squared mean. *)
Lemma variance_moments n x : variance n x = mean n (fun k => x k ^ 2) - (mean n x) ^ 2.
Proof.
  unfold variance. set (m := mean n x). unfold mean.
  rewrite (total_ext n _ (fun k => x k ^ 2 - (2 * m * x k - m ^ 2)))
    by (intros; ring).
  rewrite !total_minus, total_scal_l, total_const.
  replace (total n x) with (classes n * m) by (symmetry; apply total_mean).
  pose proof (classes_neq n). field; auto.
Qed.

(** The mean is the expectation under uniform weights. *)
Lemma mean_expectation n x : mean n x = expectation n (fun _ => / classes n) x.
Proof. unfold mean, expectation. rewrite total_scal_l. unfold Rdiv; ring. Qed.

Lemma variance_uniform n x : variance n x = variance_under n (fun _ => / classes n) x.
Proof. unfold variance, variance_under. rewrite <- !mean_expectation. reflexivity. Qed.

Lemma expectation_ext n p q x y :
  (forall k, (k <= n)%nat -> p k = q k) -> (forall k, (k <= n)%nat -> x k = y k) ->
  expectation n p x = expectation n q y.
Proof.
  intros Hp Hx. apply total_ext; intros k Hk. rewrite Hp, Hx; auto.
Qed.

Lemma expectation_const n p c : total n p = 1 -> expectation n p (fun _ => c) = c.
Proof. intros H. unfold expectation. rewrite total_scal_r, H. ring. Qed.

Lemma variance_under_nonneg n p x :
  (forall k, (k <= n)%nat -> 0 <= p k) -> 0 <= variance_under n p x.
Proof.
  intros H. apply total_nonneg; intros k Hk.
  apply Rmult_le_pos; [auto|apply pow2_ge_0].
Qed.

Lemma variance_under_moments n p x :
  total n p = 1 ->
  variance_under n p x = expectation n p (fun k => x k ^ 2) - (expectation n p x) ^ 2.
Proof.
  intros H. unfold variance_under. set (m := expectation n p x).
  unfold expectation.
  rewrite (total_ext n _ (fun k => p k * x k ^ 2 - (2 * m * (p k * x k) - m ^ 2 * p k)))
    by (intros; ring).
  rewrite !total_minus, !total_scal_l, H.
  replace (total n (fun k => p k * x k)) with m by reflexivity. ring.
Qed.

(** The expectation is the point with the least mean squared distance, and the variance
    that distance. *)
Lemma variance_under_least n p x c :
  total n p = 1 ->
  expectation n p (fun k => (x k - c) ^ 2)
  = variance_under n p x + (expectation n p x - c) ^ 2.
Proof.
  intros H. rewrite variance_under_moments by exact H. unfold expectation at 1.
  rewrite (total_ext n _ (fun k => p k * x k ^ 2 - (2 * c * (p k * x k) - c ^ 2 * p k)))
    by (intros; ring).
  rewrite !total_minus, !total_scal_l, H. unfold expectation. ring.
Qed.

(** * Softmax *)

Lemma total_exp_pos n (x : vec) : 0 < total n (fun k => exp (x k)).
Proof. apply total_pos; intros; apply exp_pos. Qed.

Lemma total_exp_neq n (x : vec) : total n (fun k => exp (x k)) <> 0.
Proof. pose proof (total_exp_pos n x); lra. Qed.

Lemma softmax_pos n T z k : 0 < softmax n T z k.
Proof.
  unfold softmax. apply Rdiv_lt_0_compat; [apply exp_pos|].
  apply (total_exp_pos n (fun j => z j / T)).
Qed.

Lemma softmax_total n T z : total n (softmax n T z) = 1.
Proof.
  unfold softmax. rewrite (total_div n _ (fun k => exp (z k / T))).
  apply Rinv_r, (total_exp_neq n (fun j => z j / T)).
Qed.

Lemma softmax_ext n T z y k :
  (forall j, (j <= n)%nat -> z j = y j) -> (k <= n)%nat ->
  softmax n T z k = softmax n T y k.
Proof.
  intros H Hk. unfold softmax. rewrite (H k Hk). f_equal.
  apply total_ext; intros j Hj. rewrite H; auto.
Qed.

Lemma softmax_le_1 n T z k : (k <= n)%nat -> softmax n T z k <= 1.
Proof.
  intros Hk. rewrite <- (softmax_total n T z).
  apply term_le_total; [|exact Hk]. intros; left; apply softmax_pos.
Qed.

(** Adding a number to every class does not change the predictions. *)
Lemma softmax_shift n T z c k : softmax n T (shift z c) k = softmax n T z k.
Proof.
  unfold softmax, shift.
  rewrite (total_ext n _ (fun j => exp (z j / T) * exp (c / T)))
    by (intros; rewrite <- exp_plus; f_equal; unfold Rdiv; ring).
  rewrite total_scal_r.
  replace (exp ((z k + c) / T)) with (exp (z k / T) * exp (c / T))
    by (rewrite <- exp_plus; f_equal; unfold Rdiv; ring).
  pose proof (total_exp_neq n (fun j => z j / T)). pose proof (exp_pos (c / T)).
  field; lra.
Qed.

(** The logarithm of a prediction. *)
Definition log_total (n : nat) (T : R) (z : vec) : R :=
  ln (total n (fun j => exp (z j / T))).

Lemma ln_softmax n T z k : ln (softmax n T z k) = z k / T - log_total n T z.
Proof.
  unfold softmax, log_total. rewrite ln_div.
  - rewrite ln_exp; reflexivity.
  - apply exp_pos.
  - apply (total_exp_pos n (fun j => z j / T)).
Qed.

Lemma kl_softmax n T z v :
  kl n (softmax n T v) (softmax n T z)
  = expectation n (softmax n T v) (fun k => (v k - z k) / T)
    + log_total n T z - log_total n T v.
Proof.
  unfold kl, expectation.
  rewrite (total_ext n _ (fun k => softmax n T v k * ((v k - z k) / T)
             + softmax n T v k * (log_total n T z - log_total n T v))).
  - rewrite total_plus, total_scal_r, softmax_total. ring.
  - intros k _. rewrite ln_div, !ln_softmax by apply softmax_pos.
    unfold Rdiv; ring.
Qed.

(** * Partial derivatives *)

Lemma is_derive_bump z k j t :
  is_derive (fun s => bump z k s j) t (if Nat.eqb j k then 1 else 0).
Proof.
  unfold bump. destruct (Nat.eqb j k); auto_derive; auto; ring.
Qed.

Lemma bump_0 z k j : bump z k 0 j = z j.
Proof. unfold bump. destruct (Nat.eqb j k); ring. Qed.
