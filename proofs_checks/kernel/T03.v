(** T3. Two-sided bound.

    If the logits of the student, and those of the teacher, differ by at most R, then
    [exp (- R / T) * var d / 2 <= L_T <= exp (R / T) * var d / 2]. More sharply, the
    factors are [C / (1 + (C - 1) exp (R / T))] and [C / (1 + (C - 1) exp (- R / T))] for
    C classes. The loss is also at most one eighth of the squared range of d. No factor
    below [exp (R / T)] holds for every number of classes. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T02.
Open Scope R_scope.

(** * Ranges *)

Lemma within_nonneg n x R : within n x R -> 0 <= R.
Proof. intros H. specialize (H O O (Nat.le_0_l n) (Nat.le_0_l n)). lra. Qed.

(** Every vector has a least value. *)
Lemma least n (x : vec) :
  exists i, (i <= n)%nat /\ forall k, (k <= n)%nat -> x i <= x k.
Proof.
  induction n as [|n [i [Hi H]]].
  - exists O; split; [lia|]. intros k Hk. replace k with O by lia. lra.
  - destruct (Rle_dec (x i) (x (S n))) as [L|L].
    + exists i; split; [lia|]. intros k Hk.
      destruct (Nat.eq_dec k (S n)) as [->|N]; [exact L|]. apply H; lia.
    + exists (S n); split; [lia|]. intros k Hk.
      destruct (Nat.eq_dec k (S n)) as [->|N]; [lra|].
      assert (x i <= x k) by (apply H; lia). lra.
Qed.

(** The values of a vector within R lie between its least value and R more. *)
Lemma within_interval n x R :
  within n x R -> exists a, forall k, (k <= n)%nat -> a <= x k <= a + R.
Proof.
  intros H. destruct (least n x) as [i [Hi L]]. exists (x i).
  intros k Hk. specialize (H k i Hk Hi). specialize (L k Hk). lra.
Qed.

(** Every vector is within some number. *)
Lemma within_some n x : exists R, within n x R.
Proof.
  exists (2 * total n (fun k => Rabs (x k))). intros j k Hj Hk.
  pose proof (term_le_total n (fun i => Rabs (x i)) j (fun i _ => Rabs_pos _) Hj) as Aj.
  pose proof (term_le_total n (fun i => Rabs (x i)) k (fun i _ => Rabs_pos _) Hk) as Ak.
  simpl in *. pose proof (Rle_abs (x j)). pose proof (Rle_abs (- x k)).
  rewrite Rabs_Ropp in *. lra.
Qed.

Lemma within_weaker n x R S : within n x R -> R <= S -> within n x S.
Proof. intros H L j k Hj Hk. specialize (H j k Hj Hk). lra. Qed.

(** A point between two vectors within R is within R. *)
Lemma within_between n v z R s :
  0 <= s <= 1 -> within n v R -> within n z R ->
  within n (fun k => v k + s * (z k - v k)) R.
Proof.
  intros Hs Hv Hz j k Hj Hk. specialize (Hv j k Hj Hk). specialize (Hz j k Hj Hk).
  replace (v j + s * (z j - v j) - (v k + s * (z k - v k)))
    with ((1 - s) * (v j - v k) + s * (z j - z k)) by ring.
  replace R with ((1 - s) * R + s * R) by ring.
  apply Rplus_le_compat; apply Rmult_le_compat_l; lra.
Qed.

(** * Weights *)

(** The factors of the sharp bounds, as functions of r. *)
Definition factor (n : nat) (r : R) : R := classes n / (1 + INR n * exp (- r)).

Lemma factor_denominator_pos n r : 0 < 1 + INR n * exp r.
Proof.
  pose proof (Rmult_le_pos _ _ (pos_INR n) (Rlt_le _ _ (exp_pos r))). lra.
Qed.

Lemma classes_succ n : classes n = 1 + INR n.
Proof. unfold classes. rewrite S_INR. ring. Qed.

Lemma softmax_inverse n T z k :
  / softmax n T z k = total n (fun j => exp ((z j - z k) / T)).
Proof.
  unfold softmax. rewrite (total_ext n (fun j => exp ((z j - z k) / T))
    (fun j => / exp (z k / T) * exp (z j / T))).
  - rewrite total_scal_l. pose proof (exp_pos (z k / T)).
    pose proof (total_exp_neq n (fun j => z j / T)). field. split; [lra|assumption].
  - intros j _. rewrite <- exp_Ropp, <- exp_plus. f_equal. unfold Rdiv; ring.
Qed.

Lemma exp_le a b : a <= b -> exp a <= exp b.
Proof. intros [H|H]; [left; apply exp_increasing, H|right; rewrite H; reflexivity]. Qed.

Lemma over_le a b T : 0 < T -> a <= b -> a / T <= b / T.
Proof.
  intros HT H. apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat, HT|exact H].
Qed.

Lemma exp_over_ge_1 R T : 0 < T -> 0 <= R -> 1 <= exp (R / T).
Proof.
  intros HT HR. rewrite <- exp_0. apply exp_le.
  replace 0 with (0 / T) by (field; lra). apply over_le; assumption.
Qed.

(** A sum of [1] for one class and [e] for each other one. *)
Lemma total_one_others n k e :
  (k <= n)%nat -> total n (fun j => if Nat.eqb j k then 1 else e) = 1 + INR n * e.
Proof.
  intros Hk.
  rewrite (total_ext n _ (fun j => e + (1 - e) * (if Nat.eqb j k then 1 else 0)))
    by (intros j _; destruct (Nat.eqb j k); ring).
  rewrite total_plus, total_const, total_scal_l, (total_single n k (fun _ => 1) Hk).
  rewrite classes_succ. ring.
Qed.

(** Predictions of logits within R are bounded on both sides. *)
Lemma softmax_lower n T z R k :
  0 < T -> within n z R -> (k <= n)%nat ->
  factor n (- (R / T)) <= classes n * softmax n T z k.
Proof.
  intros HT Hz Hk. unfold factor. rewrite Ropp_involutive.
  apply Rmult_le_compat_l; [left; apply classes_pos|].
  rewrite <- (Rinv_inv (softmax n T z k)).
  apply Rinv_le_contravar; [apply Rinv_0_lt_compat, softmax_pos|].
  rewrite softmax_inverse, <- (total_one_others n k) by exact Hk.
  apply total_le; intros j Hj. destruct (Nat.eqb_spec j k) as [->|_].
  - rewrite Rminus_eq_0. unfold Rdiv. rewrite Rmult_0_l, exp_0. lra.
  - apply exp_le, over_le; auto.
Qed.

Lemma softmax_upper n T z R k :
  0 < T -> within n z R -> (k <= n)%nat ->
  classes n * softmax n T z k <= factor n (R / T).
Proof.
  intros HT Hz Hk. unfold factor.
  apply Rmult_le_compat_l; [left; apply classes_pos|].
  rewrite <- (Rinv_inv (softmax n T z k)).
  apply Rinv_le_contravar; [apply factor_denominator_pos|].
  rewrite softmax_inverse, <- (total_one_others n k) by exact Hk.
  apply total_le; intros j Hj. destruct (Nat.eqb_spec j k) as [->|_].
  - rewrite Rminus_eq_0. unfold Rdiv. rewrite Rmult_0_l, exp_0. lra.
  - apply exp_le. replace (- (R / T)) with (- R / T) by (unfold Rdiv; ring).
    apply over_le; [exact HT|]. specialize (Hz k j Hk Hj). lra.
Qed.

(** The sharp factors are within the exponentials. *)
Lemma factor_upper n r : 0 <= r -> factor n r <= exp r.
Proof.
  intros Hr. unfold factor. pose proof (factor_denominator_pos n (- r)) as D.
  assert (E : 1 <= exp r) by (rewrite <- exp_0; apply exp_le, Hr).
  apply (Rmult_le_reg_r (1 + INR n * exp (- r))); [exact D|].
  replace (classes n / (1 + INR n * exp (- r)) * (1 + INR n * exp (- r)))
    with (classes n) by (field; lra).
  replace (exp r * (1 + INR n * exp (- r))) with (exp r + INR n * exp (r + - r))
    by (rewrite exp_plus; ring).
  rewrite Rplus_opp_r, exp_0, classes_succ. lra.
Qed.

Lemma factor_lower n r : 0 <= r -> exp (- r) <= factor n (- r).
Proof.
  intros Hr. unfold factor. rewrite Ropp_involutive.
  pose proof (factor_denominator_pos n r) as D.
  assert (E : exp (- r) <= 1) by (rewrite <- exp_0; apply exp_le; lra).
  apply (Rmult_le_reg_r (1 + INR n * exp r)); [exact D|].
  replace (classes n / (1 + INR n * exp r) * (1 + INR n * exp r))
    with (classes n) by (field; lra).
  replace (exp (- r) * (1 + INR n * exp r)) with (exp (- r) + INR n * exp (- r + r))
    by (rewrite exp_plus; ring).
  rewrite Rplus_opp_l, exp_0, classes_succ. lra.
Qed.

(** * Variances under bounded weights *)

Lemma variance_sum n x :
  classes n * variance n x = total n (fun k => (x k - mean n x) ^ 2).
Proof. unfold variance, mean at 1. pose proof (classes_neq n). field; assumption. Qed.

Lemma variance_under_upper n p x b :
  total n p = 1 -> (forall k, (k <= n)%nat -> classes n * p k <= b) ->
  variance_under n p x <= b * variance n x.
Proof.
  intros Hp Hb. set (m := mean n x).
  apply Rle_trans with (expectation n p (fun k => (x k - m) ^ 2)).
  - rewrite variance_under_least by exact Hp.
    pose proof (pow2_ge_0 (expectation n p x - m)). lra.
  - apply (Rmult_le_reg_l (classes n)); [apply classes_pos|].
    replace (classes n * (b * variance n x)) with (b * (classes n * variance n x)) by ring.
    rewrite variance_sum, <- total_scal_l. unfold expectation. rewrite <- total_scal_l.
    apply total_le; intros k Hk. rewrite <- Rmult_assoc.
    apply Rmult_le_compat_r; [apply pow2_ge_0|auto].
Qed.

Lemma variance_under_lower n p x a :
  total n p = 1 -> 0 <= a -> (forall k, (k <= n)%nat -> a <= classes n * p k) ->
  a * variance n x <= variance_under n p x.
Proof.
  intros Hp Ha Hb. set (e := expectation n p x).
  assert (E : variance n x <= mean n (fun k => (x k - e) ^ 2)).
  { rewrite mean_expectation, variance_under_least, <- variance_uniform.
    - pose proof (pow2_ge_0 (expectation n (fun _ => / classes n) x - e)). lra.
    - rewrite total_const. apply Rinv_r, classes_neq. }
  apply Rle_trans with (a * mean n (fun k => (x k - e) ^ 2)).
  - apply Rmult_le_compat_l; assumption.
  - apply (Rmult_le_reg_l (classes n)); [apply classes_pos|].
    replace (classes n * (a * mean n (fun k => (x k - e) ^ 2)))
      with (a * (classes n * mean n (fun k => (x k - e) ^ 2))) by ring.
    rewrite <- total_mean, <- total_scal_l. unfold variance_under, expectation at 1.
    rewrite <- total_scal_l. fold e.
    apply total_le; intros k Hk. rewrite <- Rmult_assoc.
    apply Rmult_le_compat_r; [apply pow2_ge_0|auto].
Qed.

(** Popoviciu: the variance is at most a quarter of the squared range. *)
Lemma variance_under_popoviciu n p x D :
  (forall k, (k <= n)%nat -> 0 <= p k) -> total n p = 1 -> within n x D ->
  variance_under n p x <= D ^ 2 / 4.
Proof.
  intros Hp H1 Hx. destruct (within_interval n x D Hx) as [a Ha].
  apply Rle_trans with (expectation n p (fun k => (x k - (a + D / 2)) ^ 2)).
  - rewrite variance_under_least by exact H1.
    pose proof (pow2_ge_0 (expectation n p x - (a + D / 2))). lra.
  - rewrite <- (expectation_const n p (D ^ 2 / 4)) by exact H1.
    apply total_le; intros k Hk. apply Rmult_le_compat_l; [auto|].
    specialize (Ha k Hk).
    assert (0 <= (x k - a) * (a + D - x k)) by (apply Rmult_le_pos; lra). nra.
Qed.

(** * The bounds *)

(** T3, sharp form. *)
Theorem kd_bounds_sharp :
  forall n T z v R,
    0 < T -> within n z R -> within n v R ->
    let d := fun k => z k - v k in
    classes n / (1 + (classes n - 1) * exp (R / T)) * (variance n d / 2)
    <= kd n T z v
    <= classes n / (1 + (classes n - 1) * exp (- (R / T))) * (variance n d / 2).
Proof.
  intros n T z v R HT Hz Hv d.
  replace (classes n - 1) with (INR n) by (rewrite classes_succ; ring).
  replace (classes n / (1 + INR n * exp (R / T))) with (factor n (- (R / T)))
    by (unfold factor; rewrite Ropp_involutive; reflexivity).
  fold (factor n (R / T)).
  destruct (kd_mean_value n T z v) as [s [Hs E]]; [lra|]. rewrite E. fold d.
  assert (W : within n (fun k => v k + s * (z k - v k)) R)
    by (apply within_between; [lra|assumption|assumption]).
  split.
  - enough (factor n (- (R / T)) * variance n d
            <= variance_under n (softmax n T (fun k => v k + s * (z k - v k))) d) by lra.
    apply variance_under_lower; [apply softmax_total| |].
    + unfold factor. apply Rdiv_le_0_compat;
        [left; apply classes_pos|apply factor_denominator_pos].
    + intros; apply softmax_lower; assumption.
  - enough (variance_under n (softmax n T (fun k => v k + s * (z k - v k))) d
            <= factor n (R / T) * variance n d) by lra.
    apply variance_under_upper; [apply softmax_total|].
    intros; apply softmax_upper; assumption.
Qed.

(** T3. *)
Theorem kd_bounds :
  forall n T z v R,
    0 < T -> within n z R -> within n v R ->
    let d := fun k => z k - v k in
    exp (- (R / T)) * (variance n d / 2) <= kd n T z v <= exp (R / T) * (variance n d / 2).
Proof.
  intros n T z v R HT Hz Hv d.
  destruct (kd_bounds_sharp n T z v R HT Hz Hv) as [L U]. fold d in L, U.
  replace (classes n - 1) with (INR n) in L, U by (rewrite classes_succ; ring).
  assert (V : 0 <= variance n d / 2) by (pose proof (variance_nonneg n d); lra).
  assert (Hr : 0 <= R / T) by (apply Rdiv_le_0_compat; [apply (within_nonneg n z), Hz|lra]).
  split.
  - eapply Rle_trans; [|exact L]. apply Rmult_le_compat_r; [exact V|].
    pose proof (factor_lower n (R / T) Hr) as F. unfold factor in F.
    rewrite Ropp_involutive in F. exact F.
  - eapply Rle_trans; [exact U|]. apply Rmult_le_compat_r; [exact V|].
    apply (factor_upper n (R / T) Hr).
Qed.

(** T3, the bound by the range of d, at every temperature. *)
Theorem kd_bound_range :
  forall n T z v D,
    0 < T -> within n (fun k => z k - v k) D -> kd n T z v <= D ^ 2 / 8.
Proof.
  intros n T z v D HT HD. destruct (kd_mean_value n T z v) as [s [_ E]]; [lra|].
  rewrite E.
  pose proof (variance_under_popoviciu n
    (softmax n T (fun k => v k + s * (z k - v k))) (fun k => z k - v k) D
    (fun k _ => Rlt_le _ _ (softmax_pos n T _ k)) (softmax_total n T _) HD). lra.
Qed.
