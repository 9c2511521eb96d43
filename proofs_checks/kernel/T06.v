(** T6. Zero temperature.

    Let [top] be the teacher's top class, with the lead g over every other class, and
    [best] the student's. Then [T * KL] lies within [T ln C + D (C - 1) exp (- g / T)]
    of [z_best - z_top], where the student's logits are within D. If g is positive, that
    is the limit of [T * KL] as T falls to zero: label matching. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T02 T03.
Open Scope R_scope.

(** The sum of [p_k ln p_k]. *)
Definition negative_entropy (n : nat) (p : vec) : R := total n (fun k => p k * ln (p k)).

(** Without temperature, T * KL has three parts. *)
Lemma scaled_kl n T z v :
  T <> 0 ->
  let p := softmax n T v in
  T * kl n p (softmax n T z)
  = T * negative_entropy n p - expectation n p z + T * log_total n T z.
Proof.
  intros HT p. unfold kl, negative_entropy, expectation.
  rewrite <- (total_scal_l n T (fun k => p k * ln (p k / _))), <- total_scal_l.
  rewrite (total_ext n _ (fun k => T * (p k * ln (p k)) - p k * z k
                          + p k * (T * log_total n T z))).
  - rewrite total_plus, total_minus, total_scal_r.
    pose proof (softmax_total n T v : total n p = 1) as P. rewrite P. ring.
  - intros k _. rewrite ln_div, (ln_softmax n T z) by apply softmax_pos.
    field. exact HT.
Qed.

Lemma ln_le_0 x : 0 < x <= 1 -> ln x <= 0.
Proof.
  intros [H [L|E]].
  - rewrite <- ln_1. left; apply ln_increasing; lra.
  - rewrite E, ln_1; lra.
Qed.

Lemma ln_classes_nonneg n : 0 <= ln (classes n).
Proof.
  destruct (classes_ge_1 n) as [H|H].
  - rewrite <- ln_1. left. apply ln_increasing; lra.
  - rewrite <- H, ln_1. lra.
Qed.

(** The entropy lies between zero and [ln C]. *)
Lemma entropy_bounds n T v :
  T <> 0 -> - ln (classes n) <= negative_entropy n (softmax n T v) <= 0.
Proof.
  intros HT. set (p := softmax n T v). split.
  - (* The divergence from the uniform prediction is not negative. *)
    pose proof (kd_nonneg n T (fun _ => 0) v HT) as K. unfold kd in K.
    assert (U : forall k, softmax n T (fun _ => 0) k = / classes n).
    { intros k. unfold softmax, Rdiv.
      rewrite Rmult_0_l, exp_0, total_const, Rmult_1_r. ring. }
    assert (E : kl n p (softmax n T (fun _ => 0)) = negative_entropy n p + ln (classes n)).
    { unfold kl, negative_entropy.
      rewrite (total_ext n _ (fun k => p k * ln (p k) + p k * ln (classes n))).
      - rewrite total_plus, total_scal_r.
        pose proof (softmax_total n T v : total n p = 1) as P. rewrite P. ring.
      - intros k _. rewrite U, ln_div, ln_Rinv; [ring|apply classes_pos| |].
        + apply softmax_pos.
        + apply Rinv_0_lt_compat, classes_pos. }
    fold p in K. rewrite E in K.
    assert (P : 0 < T ^ 2) by (apply pow2_gt_0, HT).
    apply (Rmult_le_reg_l (T ^ 2)); [exact P|]. lra.
  - rewrite <- (total_zero n). apply total_le; intros k Hk.
    assert (L : ln (p k) <= 0)
      by (apply ln_le_0; split; [apply softmax_pos|apply softmax_le_1, Hk]).
    pose proof (softmax_pos n T v k). fold p in H.
    pose proof (Rmult_le_pos (p k) (- ln (p k))). lra.
Qed.

(** The log-sum-exp lies between the maximum and [T ln C] more. *)
Lemma log_total_bounds n T z best :
  0 < T -> (best <= n)%nat -> (forall k, (k <= n)%nat -> z k <= z best) ->
  z best <= T * log_total n T z <= z best + T * ln (classes n).
Proof.
  intros HT Hb Hz. unfold log_total.
  pose proof (total_exp_pos n (fun k => z k / T)) as P. cbv beta in P.
  assert (E : z best = T * ln (exp (z best / T))) by (rewrite ln_exp; field; lra).
  split.
  - rewrite E at 1. apply Rmult_le_compat_l; [lra|].
    apply ln_le; [apply exp_pos|].
    apply (term_le_total n (fun k => exp (z k / T))); [|exact Hb].
    intros; left; apply exp_pos.
  - rewrite E at 1. rewrite <- Rmult_plus_distr_l. apply Rmult_le_compat_l; [lra|].
    rewrite <- ln_mult by (apply exp_pos || apply classes_pos).
    apply ln_le; [exact P|]. rewrite Rmult_comm, <- total_const.
    apply total_le; intros k Hk. apply exp_le, over_le; auto.
Qed.

(** The classes other than [top] have little mass. *)
Lemma rest_small n T v top g :
  0 < T -> (top <= n)%nat ->
  (forall k, (k <= n)%nat -> k <> top -> v k + g <= v top) ->
  1 - softmax n T v top <= (classes n - 1) * exp (- (g / T)).
Proof.
  intros HT Ht Hv. set (p := softmax n T v). set (e := exp (- (g / T))).
  assert (L : forall k, (k <= n)%nat -> k <> top -> p k <= e).
  { intros k Hk N. unfold p, softmax, e.
    pose proof (total_exp_pos n (fun j => v j / T)) as P. cbv beta in P.
    apply (Rmult_le_reg_r (total n (fun j => exp (v j / T)))); [exact P|].
    replace (exp (v k / T) / _ * _) with (exp (v k / T)) by (field; lra).
    apply Rle_trans with (exp (- (g / T)) * exp (v top / T)).
    - rewrite <- exp_plus. apply exp_le.
      replace (- (g / T) + v top / T) with ((v top - g) / T) by (unfold Rdiv; ring).
      apply over_le; [exact HT|]. specialize (Hv k Hk N). lra.
    - apply Rmult_le_compat_l; [left; apply exp_pos|].
      apply (term_le_total n (fun j => exp (v j / T))); [|exact Ht].
      intros; left; apply exp_pos. }
  pose proof (softmax_total n T v) as S. rewrite (total_without n top) in S by exact Ht.
  fold p in S.
  enough (total n (fun k => if Nat.eqb k top then 0 else p k)
          <= (classes n - 1) * e) by lra.
  apply Rle_trans with (total n (fun k => e - (if Nat.eqb k top then e else 0))).
  - apply total_le; intros k Hk. destruct (Nat.eqb_spec k top) as [_|N]; [lra|].
    specialize (L k Hk N). lra.
  - rewrite total_minus, total_const, (total_single n top (fun _ => e) Ht). lra.
Qed.

(** The mean of the student's logits is near the logit of [top]. *)
Lemma expectation_near n p z top D :
  (top <= n)%nat -> (forall k, (k <= n)%nat -> 0 <= p k) -> total n p = 1 ->
  within n z D -> Rabs (expectation n p z - z top) <= D * (1 - p top).
Proof.
  intros Ht P Hp Hz.
  assert (E : expectation n p z - z top
              = total n (fun k => if Nat.eqb k top then 0 else p k * (z k - z top))).
  { rewrite (total_ext n (fun k => if Nat.eqb k top then 0 else p k * (z k - z top))
               (fun k => p k * z k - z top * p k))
      by (intros k _; destruct (Nat.eqb_spec k top) as [->|_]; ring).
    rewrite total_minus, total_scal_l, Hp. unfold expectation. ring. }
  assert (M : 1 - p top = total n (fun k => if Nat.eqb k top then 0 else p k))
    by (rewrite <- Hp, (total_without n top) by exact Ht; ring).
  rewrite E, M, <- total_scal_l. eapply Rle_trans; [apply total_abs|].
  apply total_le; intros k Hk. destruct (Nat.eqb k top).
  - rewrite Rabs_R0. lra.
  - rewrite Rabs_mult, (Rabs_pos_eq (p k)), Rmult_comm by auto.
    apply Rmult_le_compat_r; [auto|]. apply Rabs_le.
    pose proof (Hz k top Hk Ht). pose proof (Hz top k Ht Hk). lra.
Qed.

(** T6, the bound. *)
Theorem kd_zero_temperature :
  forall n T z v top best g D,
    0 < T -> (top <= n)%nat -> (best <= n)%nat ->
    (forall k, (k <= n)%nat -> k <> top -> v k + g <= v top) ->
    (forall k, (k <= n)%nat -> z k <= z best) ->
    within n z D ->
    Rabs (T * kl n (softmax n T v) (softmax n T z) - (z best - z top))
    <= T * ln (classes n) + D * ((classes n - 1) * exp (- (g / T))).
Proof.
  intros n T z v top best g D HT Ht Hb Hv Hz HD.
  rewrite scaled_kl by lra. set (p := softmax n T v).
  pose proof (entropy_bounds n T v) as [A1 A2]; [lra|]. fold p in A1, A2.
  pose proof (log_total_bounds n T z best HT Hb Hz) as B.
  pose proof (rest_small n T v top g HT Ht Hv) as C. fold p in C.
  pose proof (expectation_near n p z top D Ht) as N.
  assert (N1 : Rabs (expectation n p z - z top) <= D * (1 - p top)).
  { apply N; [intros; left; apply softmax_pos|apply softmax_total|exact HD]. }
  pose proof (Rmult_le_compat_l D _ _ (within_nonneg n z D HD) C) as N2.
  apply Rabs_le_between in N1.
  pose proof (Rmult_le_compat_l T _ _ (Rlt_le _ _ HT) A1).
  pose proof (Rmult_le_compat_l T _ _ (Rlt_le _ _ HT) A2).
  apply Rabs_le. lra.
Qed.

(** T6: for a unique top class of the teacher, the limit is the lead of the student's top
    class over it. *)
Theorem kd_zero_temperature_limit :
  forall n z v top best,
    (top <= n)%nat -> (best <= n)%nat ->
    (forall k, (k <= n)%nat -> k <> top -> v k < v top) ->
    (forall k, (k <= n)%nat -> z k <= z best) ->
    filterlim (fun T => T * kl n (softmax n T v) (softmax n T z)) (at_right 0)
      (locally (z best - z top)).
Proof.
  intros n z v top best Ht Hb Hv Hz.
  destruct (within_some n z) as [D HD]. pose proof (within_nonneg n z D HD) as D0.
  (* The lead over the others: the least difference, one for class [top] itself. *)
  set (lead := fun k => if Nat.eqb k top then 1 else v top - v k).
  destruct (least n lead) as [i [Hi L]].
  assert (g0 : 0 < lead i).
  { unfold lead. destruct (Nat.eqb_spec i top) as [_|N]; [lra|].
    specialize (Hv i Hi N). lra. }
  set (g := lead i) in *.
  set (c := ln (classes n) + D * ((classes n - 1) / g) + 1).
  pose proof (classes_ge_1 n) as C1.
  assert (c0 : 0 < c).
  { unfold c. pose proof (ln_classes_nonneg n).
    pose proof (Rmult_le_pos D ((classes n - 1) / g) D0).
    assert (0 <= (classes n - 1) / g) by (apply Rdiv_le_0_compat; lra). lra. }
  apply filterlim_locally. intros [eps eps_pos].
  assert (Hd : 0 < eps / c) by (apply Rdiv_lt_0_compat; assumption).
  exists (mkposreal _ Hd). intros T HT T0.
  change (Rabs (T - 0) < eps / c) in HT. rewrite Rminus_0_r, Rabs_pos_eq in HT by lra.
  change (Rabs (T * kl n (softmax n T v) (softmax n T z) - (z best - z top)) < eps).
  eapply Rle_lt_trans; [apply (kd_zero_temperature n T z v top best g D)|]; trivial.
  - intros k Hk N. specialize (L k Hk). unfold lead in L.
    rewrite (proj2 (Nat.eqb_neq k top) N) in L. lra.
  - (* exp (- g / T) is at most T / g. *)
    assert (E : exp (- (g / T)) <= T / g).
    { assert (P : 0 < g / T) by (apply Rdiv_lt_0_compat; assumption).
      rewrite exp_Ropp. replace (T / g) with (/ (g / T)) by (field; lra).
      apply Rinv_le_contravar; [exact P|].
      pose proof (exp_ineq1 (g / T)). lra. }
    assert (E1 : D * ((classes n - 1) * exp (- (g / T)))
                 <= D * ((classes n - 1) * (T / g))).
    { apply Rmult_le_compat_l; [exact D0|]. apply Rmult_le_compat_l; lra. }
    assert (E2 : T * c < eps).
    { apply (Rmult_lt_compat_r c) in HT; [|exact c0].
      replace (eps / c * c) with eps in HT by (field; lra). exact HT. }
    replace (D * ((classes n - 1) * (T / g))) with (T * (D * ((classes n - 1) / g)))
      in E1 by (field; lra).
    unfold c in E2. lra.
Qed.

(** T6: where both networks predict the same class, the limit is zero. *)
Theorem kd_zero_temperature_agreement :
  forall n z v top,
    (top <= n)%nat ->
    (forall k, (k <= n)%nat -> k <> top -> v k < v top) ->
    (forall k, (k <= n)%nat -> z k <= z top) ->
    filterlim (fun T => T * kl n (softmax n T v) (softmax n T z)) (at_right 0) (locally 0).
Proof.
  intros n z v top Ht Hv Hz. replace (locally 0) with (locally (z top - z top))
    by (f_equal; ring).
  apply kd_zero_temperature_limit; assumption.
Qed.
