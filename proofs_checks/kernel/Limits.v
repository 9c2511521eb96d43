(** Limits at infinite temperature, and predictions as functions of 1/T. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives.
Open Scope R_scope.

(** * Limits as T grows *)

Lemma limit_intro (f : R -> R) (l : R) :
  (forall eps, 0 < eps -> exists M, forall T, M < T -> Rabs (f T - l) < eps) ->
  is_lim f p_infty l.
Proof.
  intros H. apply is_lim_spec. intros [eps eps_pos]. destruct (H eps eps_pos) as [M HM].
  exists M. exact HM.
Qed.

(** The limit at infinity of the difference quotient with step [1 / T]. *)
Lemma is_lim_difference (f : R -> R) (a : R) :
  is_derive f 0 a -> is_lim (fun T => T * (f (/ T) - f 0)) p_infty a.
Proof.
  intros H. apply is_derive_Reals in H. apply is_lim_spec. intros [eps eps_pos]; simpl.
  destruct (H eps eps_pos) as [[delta Hdelta] Hd]; simpl in Hd.
  exists (/ delta). intros T HT.
  pose proof (Rinv_0_lt_compat _ Hdelta) as P.
  assert (HT0 : 0 < / T) by (apply Rinv_0_lt_compat; lra).
  specialize (Hd (/ T)). rewrite Rplus_0_l in Hd.
  replace (T * (f (/ T) - f 0)) with ((f (/ T) - f 0) / / T) by (field; lra).
  apply Hd; [lra|]. rewrite Rabs_pos_eq by lra.
  rewrite <- (Rinv_inv delta). apply Rinv_lt_contravar; [|exact HT].
  apply Rmult_lt_0_compat; lra.
Qed.

Lemma limit_mult (f g : R -> R) (a b : R) :
  is_lim f p_infty a -> is_lim g p_infty b -> is_lim (fun T => f T * g T) p_infty (a * b).
Proof. intros Hf Hg. apply (is_lim_mult f g p_infty a b Hf Hg). exact I. Qed.

Lemma is_lim_inverse : is_lim Rinv p_infty 0.
Proof. apply (is_lim_inv (fun T => T) p_infty p_infty); [apply is_lim_id|discriminate]. Qed.

(** * Predictions at high temperatures *)

(** The line through the origin: [softmax n T z = softmax n 1 (ray z (1 / T))]. *)
Definition ray (z : vec) (e : R) : vec := fun k => e * z k.

Lemma moves_ray n z e : moves n (ray z) e z.
Proof.
  intros k _. unfold ray. eapply is_derive_eq.
  - apply derive_mult; [apply derive_id|apply derive_const].
  - cbv beta; ring.
Qed.

Lemma softmax_ray n T z k : softmax n T z k = softmax n 1 (ray z (/ T)) k.
Proof.
  assert (E : forall j, ray z (/ T) j / 1 = z j / T)
    by (intros; unfold ray, Rdiv; rewrite Rinv_1; ring).
  unfold softmax. rewrite E. f_equal. apply total_ext; intros j _. rewrite E. reflexivity.
Qed.

Lemma log_total_ray n T z : log_total n T z = log_total n 1 (ray z (/ T)).
Proof.
  unfold log_total. f_equal. apply total_ext; intros j _. f_equal.
  unfold ray, Rdiv. rewrite Rinv_1. ring.
Qed.

Lemma softmax_ray_0 n z k : softmax n 1 (ray z 0) k = / classes n.
Proof.
  assert (E : forall j, exp (ray z 0 j / 1) = 1).
  { intros j. replace (ray z 0 j / 1) with 0 by (unfold ray; field). apply exp_0. }
  unfold softmax. rewrite E, (total_ext n _ (fun _ => 1)) by (intros; apply E).
  rewrite total_const, Rmult_1_r. unfold Rdiv; ring.
Qed.

Lemma is_lim_softmax n z k :
  (k <= n)%nat -> is_lim (fun T => softmax n T z k) p_infty (/ classes n).
Proof.
  intros Hk. rewrite <- (softmax_ray_0 n z k).
  apply (is_lim_ext (fun T => softmax n 1 (ray z (/ T)) k)).
  { intros T. symmetry. apply softmax_ray. }
  apply (is_lim_comp_continuous Rinv (fun e => softmax n 1 (ray z e) k) p_infty 0).
  - apply is_lim_inverse.
  - apply (ex_derive_continuous (fun e => softmax n 1 (ray z e) k)).
    eexists. apply is_derive_softmax; [apply moves_ray|exact Hk].
Qed.

(** The ratio of the predictions, as the exponential of a difference of logarithms. *)
Lemma softmax_ratio n T z v k :
  softmax n T v k / softmax n T z k = exp (ln (softmax n T v k) - ln (softmax n T z k)).
Proof.
  unfold Rminus. rewrite exp_plus, exp_Ropp, !exp_ln by apply softmax_pos. reflexivity.
Qed.

(** T times the distance of the ratio from 1 tends to [mean d - d_k]. *)
Lemma is_lim_ratio n z v k :
  (k <= n)%nat ->
  let d := fun j => z j - v j in
  is_lim (fun T => T * (softmax n T v k / softmax n T z k - 1)) p_infty (mean n d - d k).
Proof.
  intros Hk d.
  set (f := fun e => exp (ray v e k / 1 - log_total n 1 (ray v e)
                          - (ray z e k / 1 - log_total n 1 (ray z e)))).
  assert (F : forall e, f e = softmax n 1 (ray v e) k / softmax n 1 (ray z e) k).
  { intros e. rewrite softmax_ratio, !ln_softmax. reflexivity. }
  apply (is_lim_ext (fun T => T * (f (/ T) - f 0))).
  { intros T. rewrite !F, <- !softmax_ray, !softmax_ray_0. f_equal. f_equal.
    apply Rinv_r, Rinv_neq_0_compat, classes_neq. }
  apply is_lim_difference. eapply is_derive_eq.
  - apply (derive_comp exp); [apply is_derive_exp|].
    apply derive_minus; (apply derive_minus;
      [apply derive_over; apply (moves_ray n); exact Hk
      |apply is_derive_log_total, moves_ray]).
  - fold (f 0). rewrite F, !softmax_ray_0.
    assert (M : forall x y, expectation n (softmax n 1 (ray x 0)) y = mean n y).
    { intros x y. rewrite mean_expectation. apply expectation_ext; [|reflexivity].
      intros; apply softmax_ray_0. }
    rewrite !M. unfold d. rewrite mean_minus. pose proof (classes_neq n). field; assumption.
Qed.
