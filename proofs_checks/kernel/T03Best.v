(** T3. The factor of the two-sided bound is the best one. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T02 T03.
Open Scope R_scope.

(** * The factor cannot be smaller *)

(** The logits of one class above the others, by x. *)
Definition spike (x : R) : vec := fun k => x * onehot 0 k.

Lemma within_spike n x R : 0 <= x <= R -> within n (spike x) R.
Proof.
  intros Hx j k _ _. unfold spike, onehot.
  destruct (Nat.eqb j 0), (Nat.eqb k 0); lra.
Qed.

Lemma variance_under_ext n p x y :
  (forall k, (k <= n)%nat -> x k = y k) -> variance_under n p x = variance_under n p y.
Proof.
  intros H. unfold variance_under.
  assert (E : expectation n p x = expectation n p y)
    by (apply expectation_ext; [reflexivity|exact H]).
  rewrite E. apply expectation_ext; [reflexivity|].
  intros k Hk. rewrite (H k Hk). reflexivity.
Qed.

Lemma spike_square_expectation n p x :
  expectation n p (fun k => spike x k ^ 2) = x ^ 2 * p O.
Proof.
  rewrite <- (expectation_onehot n p 0), Rmult_comm by lia.
  unfold expectation. rewrite <- total_scal_r. apply total_ext; intros k _.
  unfold spike, onehot. destruct (Nat.eqb k 0); ring.
Qed.

Lemma spike_variance_under n p x :
  total n p = 1 -> variance_under n p (spike x) = x ^ 2 * (p O * (1 - p O)).
Proof.
  intros Hp. rewrite variance_under_moments, spike_square_expectation by exact Hp.
  replace (expectation n p (spike x)) with (x * p O); [ring|].
  rewrite <- (expectation_onehot n p 0) by lia.
  unfold expectation. rewrite <- total_scal_l. apply total_ext; intros k _.
  unfold spike; ring.
Qed.

Lemma spike_softmax n x : softmax n 1 (spike x) O = / (1 + INR n * exp (- x)).
Proof.
  rewrite <- (Rinv_inv (softmax n 1 (spike x) O)). f_equal.
  rewrite softmax_inverse, <- (total_one_others n 0) by lia.
  apply total_ext; intros j _. unfold spike, onehot. simpl Nat.eqb.
  destruct (Nat.eqb j 0).
  - match goal with |- exp ?a = 1 => replace a with 0 by field end. apply exp_0.
  - f_equal. field.
Qed.

(** The inequality between the two variances, when there are enough classes. *)
Lemma enough_classes c r s w m :
  1 <= c -> 0 < w -> exp (- r) <= w <= exp (s - r) -> c * exp (s - r) < 1 -> 1 <= m ->
  (2 * c + c * exp r) / (1 - c * exp (s - r)) < m ->
  c * (m / (1 + m) ^ 2) < / (1 + m * w) * (1 - / (1 + m * w)).
Proof.
  intros Hc Hw [W1 W2] Hq Hm Hl. set (q := c * exp (s - r)) in *.
  apply (Rmult_lt_compat_r (1 - q)) in Hl; [|lra].
  replace ((2 * c + c * exp r) / (1 - q) * (1 - q)) with (2 * c + c * exp r) in Hl
    by (field; lra).
  pose proof (exp_pos r) as Er.
  assert (D : 0 < 1 + m * w) by (pose proof (Rmult_lt_0_compat m w); lra).
  assert (D2 : 0 < (1 + m) ^ 2) by (apply pow_lt; lra).
  assert (I : 1 <= w * exp r).
  { apply (Rmult_le_compat_r (exp r)) in W1; [|lra].
    rewrite <- exp_plus, Rplus_opp_l, exp_0 in W1. exact W1. }
  (* The inequality without denominators. *)
  assert (K : c * (1 + m * w) ^ 2 < (1 + m) ^ 2 * w).
  { assert (A : c * w <= q) by (apply Rmult_le_compat_l; lra).
    assert (B : c * (1 + m * w) ^ 2 <= w * (c * exp r + 2 * c * m + q * m ^ 2)).
    { replace (c * (1 + m * w) ^ 2) with (c * 1 + w * (2 * c * m) + w * (c * w * m ^ 2))
        by ring.
      pose proof (Rmult_le_compat_l c _ _ ltac:(lra) I).
      pose proof (Rmult_le_compat_r (m ^ 2) _ _ (pow2_ge_0 m) A) as A2.
      apply (Rmult_le_compat_l w) in A2; lra. }
    eapply Rle_lt_trans; [exact B|]. rewrite (Rmult_comm _ w).
    apply Rmult_lt_compat_l; [exact Hw|].
    apply (Rmult_lt_compat_r m) in Hl; [|lra].
    pose proof (Rmult_lt_0_compat c (exp r)).
    assert (c * exp r * 1 <= c * exp r * m) by (apply Rmult_le_compat_l; lra). nra. }
  replace (/ (1 + m * w) * (1 - / (1 + m * w))) with (m * w / (1 + m * w) ^ 2)
    by (field; lra).
  apply (Rmult_lt_reg_r ((1 + m) ^ 2 * (1 + m * w) ^ 2)).
  { apply Rmult_lt_0_compat; [exact D2|apply pow_lt, D]. }
  replace (c * (m / (1 + m) ^ 2) * ((1 + m) ^ 2 * (1 + m * w) ^ 2))
    with (m * (c * (1 + m * w) ^ 2)) by (field; lra).
  replace (m * w / (1 + m * w) ^ 2 * ((1 + m) ^ 2 * (1 + m * w) ^ 2))
    with (m * ((1 + m) ^ 2 * w)) by (field; lra).
  apply Rmult_lt_compat_l; lra.
Qed.

Lemma more_classes b : exists n, b < INR n.
Proof.
  exists (Z.to_nat (up b)). destruct (archimed b) as [U _].
  apply Rlt_le_trans with (1 := U). rewrite INR_IZR_INZ. apply IZR_le. lia.
Qed.

(** T3: no factor below [exp (R / T)] holds for every number of classes. *)
Theorem kd_bounds_best :
  forall r c, 0 < r -> c < exp r ->
    exists n z v, within n z r /\ within n v r /\
      c * (variance n (fun k => z k - v k) / 2) < kd n 1 z v.
Proof.
  intros r c0 Hr Hc0.
  set (c := Rmax 1 c0).
  assert (E1 : 1 < exp r) by (rewrite <- exp_0; apply exp_increasing, Hr).
  assert (Hc1 : 1 <= c) by apply Rmax_l. assert (Hc2 : c0 <= c) by apply Rmax_r.
  assert (Hc : c < exp r) by (unfold c; apply Rmax_lub_lt; assumption).
  assert (Lc : ln c < r) by (rewrite <- (ln_exp r); apply ln_increasing; lra).
  assert (Lc0 : 0 <= ln c) by (rewrite <- ln_1; apply ln_le; lra).
  set (s := (r - ln c) / 2).
  assert (Hq : c * exp (s - r) < 1).
  { rewrite <- (exp_ln c) at 1 by lra. rewrite <- exp_plus, <- exp_0.
    apply exp_increasing. unfold s. lra. }
  destruct (more_classes (Rmax 1 ((2 * c + c * exp r) / (1 - c * exp (s - r)))))
    as [n Hn].
  assert (Hn1 : 1 <= INR n) by (eapply Rle_trans; [apply Rmax_l|left; exact Hn]).
  assert (Hn2 : (2 * c + c * exp r) / (1 - c * exp (s - r)) < INR n)
    by (eapply Rle_lt_trans; [apply Rmax_r|exact Hn]).
  exists n, (spike (r - s)), (spike r).
  split; [apply within_spike; unfold s; lra|].
  split; [apply within_spike; lra|].
  destruct (kd_mean_value n 1 (spike (r - s)) (spike r)) as [t [Ht E]]; [lra|].
  rewrite E.
  assert (D : forall k, spike (r - s) k - spike r k = spike (- s) k)
    by (intros; unfold spike; ring).
  set (p := softmax n 1 (fun k => spike r k + t * (spike (r - s) k - spike r k))).
  assert (P : p O = / (1 + INR n * exp (- (r - t * s)))).
  { rewrite <- spike_softmax. apply softmax_ext; [|lia].
    intros j _. unfold spike; ring. }
  assert (Hp : total n p = 1) by apply softmax_total.
  assert (V : variance_under n p (fun k => spike (r - s) k - spike r k)
              = s ^ 2 * (p O * (1 - p O))).
  { transitivity (variance_under n p (spike (- s))).
    - apply variance_under_ext; intros; apply D.
    - rewrite spike_variance_under by exact Hp. ring. }
  assert (U : variance n (fun k => spike (r - s) k - spike r k)
              = s ^ 2 * (INR n / (1 + INR n) ^ 2)).
  { transitivity (variance n (spike (- s))).
    - rewrite !variance_uniform. apply variance_under_ext; intros; apply D.
    - rewrite variance_uniform, spike_variance_under.
      + rewrite classes_succ. field. lra.
      + rewrite total_const. apply Rinv_r, classes_neq. }
  rewrite U, V, P. set (w := exp (- (r - t * s))).
  assert (K : c * (INR n / (1 + INR n) ^ 2)
              < / (1 + INR n * w) * (1 - / (1 + INR n * w))).
  { apply (enough_classes c r s w); trivial; [apply exp_pos|].
    assert (0 < s) by (unfold s; lra).
    split; apply exp_le; nra. }
  assert (S2 : 0 < s ^ 2) by (apply pow_lt; unfold s; lra).
  assert (N : 0 <= INR n / (1 + INR n) ^ 2)
    by (apply Rdiv_le_0_compat; [lra|apply pow_lt; lra]).
  apply (Rmult_lt_compat_l (s ^ 2)) in K; [|exact S2].
  pose proof (Rmult_le_compat_r (s ^ 2 * (INR n / (1 + INR n) ^ 2)) _ _
    (Rmult_le_pos _ _ (Rlt_le _ _ S2) N) Hc2). lra.
Qed.
