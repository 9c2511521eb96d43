(** T7. All f-divergences agree at infinite temperature.

    For the divergence [D_f(p || q) = sum q_k f(p_k / q_k)] of a function f with
    [f 1 = 0] that is twice differentiable at 1, [T ^ 2 * D_f(p || q)] tends to
    [f''(1) / 2 * var d]. Here p are the teacher's predictions, q the student's, and
    [d = z - v]. Total variation diverges. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives Limits T01 T04.
Open Scope R_scope.

Definition divergence (n : nat) (f : R -> R) (p q : vec) : R :=
  total n (fun k => q k * f (p k / q k)).

(** [f] has the first derivative [f1] around 1, and [f1] the derivative [a] at 1. *)
Definition twice_differentiable_at_1 (f f1 : R -> R) (a : R) : Prop :=
  (exists r, 0 < r /\ forall t, Rabs (t - 1) < r -> derivable_pt_lim f t (f1 t))
  /\ derivable_pt_lim f1 1 a.

(** * Taylor's formula at 1 *)

(** The second-order quotient of [f], made continuous at 0. *)
Definition quotient (f : R -> R) (b a h : R) : R :=
  if Req_EM_T h 0 then a / 2 else (f (1 + h) - b * h) / h ^ 2.

Lemma quotient_times f b a h :
  f 1 = 0 -> quotient f b a h * h ^ 2 = f (1 + h) - b * h.
Proof.
  intros Hf. unfold quotient. destruct (Req_EM_T h 0) as [->|N].
  - rewrite Rplus_0_r, Hf. ring.
  - field; exact N.
Qed.

(** The remainder of second order is small compared with [h ^ 2], because its
    derivative is small compared with [h]. *)
Lemma remainder_small f f1 a :
  f 1 = 0 -> twice_differentiable_at_1 f f1 a ->
  forall eps, 0 < eps -> exists delta, 0 < delta /\
    forall h, Rabs h < delta ->
      Rabs (f (1 + h) - f1 1 * h - a / 2 * h ^ 2) <= eps * h ^ 2.
Proof.
  intros Hf [[r [Hr H1]] H2] eps eps_pos.
  destruct (H2 eps eps_pos) as [[delta Hdelta] H]; simpl in H.
  exists (Rmin r delta); split; [apply Rmin_glb_lt; assumption|].
  intros h Hh.
  assert (Hhr : Rabs h < r) by (eapply Rlt_le_trans; [exact Hh|apply Rmin_l]).
  assert (Hhd : Rabs h < delta) by (eapply Rlt_le_trans; [exact Hh|apply Rmin_r]).
  set (g := fun t => f (1 + t) - f1 1 * t - a / 2 * t ^ 2).
  set (g1 := fun t => f1 (1 + t) - f1 1 - a * t).
  assert (Inside : forall t, Rmin 0 h <= t <= Rmax 0 h -> Rabs t <= Rabs h).
  { intros t Ht. unfold Rmin, Rmax in Ht.
    destruct (Rle_dec 0 h) as [L|L]; unfold Rabs;
      destruct (Rcase_abs t), (Rcase_abs h); lra. }
  assert (D : forall t, Rabs t < r -> is_derive g t (g1 t)).
  { intros t Ht. unfold g, g1. eapply is_derive_eq.
    - apply derive_minus; [apply derive_minus|].
      + apply (derive_comp f (fun t => 1 + t) t (f1 (1 + t)) (0 + 1)).
        * apply is_derive_Reals, H1. replace (1 + t - 1) with t by ring. exact Ht.
        * apply derive_plus; [apply derive_const|apply derive_id].
      + apply derive_scal, derive_id.
      + apply derive_scal, (is_derive_pow (fun t => t) 2 t 1), derive_id.
    - simpl. field. }
  assert (Small : forall t, Rabs t <= Rabs h -> Rabs (g1 t) <= eps * Rabs t).
  { intros t Ht. destruct (Req_dec t 0) as [->|N].
    - unfold g1. rewrite Rplus_0_r, Rmult_0_r, Rminus_eq_0, Rminus_0_r, Rabs_R0. lra.
    - assert (Q : Rabs ((f1 (1 + t) - f1 1) / t - a) < eps) by (apply H; [exact N|lra]).
      replace (g1 t) with (((f1 (1 + t) - f1 1) / t - a) * t)
        by (unfold g1; field; exact N).
      rewrite Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|lra]. }
  destruct (MVT_gen g 0 h g1) as [t [Ht E]].
  - intros t Ht. apply D. eapply Rle_lt_trans; [apply Inside; lra|exact Hhr].
  - intros t Ht. apply continuity_pt_filterlim, (ex_derive_continuous g).
    exists (g1 t). apply D. eapply Rle_lt_trans; [apply Inside, Ht|exact Hhr].
  - assert (G0 : g 0 = 0) by (unfold g; rewrite Rplus_0_r, Hf; ring).
    rewrite G0, !Rminus_0_r in E. fold (g h). rewrite E, Rabs_mult.
    pose proof (Inside t Ht) as I. pose proof (Small t I) as S.
    pose proof (Rabs_pos h) as P. rewrite <- (pow2_abs h).
    apply Rle_trans with (eps * Rabs t * Rabs h); [apply Rmult_le_compat_r; assumption|].
    replace (eps * Rabs h ^ 2) with (eps * Rabs h * Rabs h) by ring.
    apply Rmult_le_compat_r; [exact P|]. apply Rmult_le_compat_l; lra.
Qed.

Lemma quotient_continuous f f1 a :
  f 1 = 0 -> twice_differentiable_at_1 f f1 a ->
  continuous (quotient f (f1 1) a) 0.
Proof.
  intros Hf H. apply filterlim_locally. intros [eps eps_pos].
  destruct (remainder_small f f1 a Hf H (eps / 2)) as [delta [Hdelta R]]; [lra|].
  exists (mkposreal _ Hdelta). intros h Hh.
  change (Rabs (h - 0) < delta) in Hh. rewrite Rminus_0_r in Hh.
  change (Rabs (quotient f (f1 1) a h - quotient f (f1 1) a 0) < eps).
  unfold quotient at 2. destruct (Req_EM_T 0 0) as [_|N]; [|contradiction].
  destruct (Req_dec h 0) as [->|N].
  - unfold quotient. destruct (Req_EM_T 0 0) as [_|N]; [|contradiction].
    rewrite Rminus_eq_0, Rabs_R0. exact eps_pos.
  - assert (P : 0 < h ^ 2) by (apply pow2_gt_0, N).
    specialize (R h Hh). rewrite <- (quotient_times f (f1 1) a h Hf) in R.
    replace (quotient f (f1 1) a h * h ^ 2 - a / 2 * h ^ 2)
      with ((quotient f (f1 1) a h - a / 2) * h ^ 2) in R by ring.
    rewrite Rabs_mult, (Rabs_pos_eq (h ^ 2)) in R by lra.
    apply Rmult_le_reg_r in R; [lra|exact P].
Qed.

(** * The theorem *)

(** The divergence without the linear term of [f], which contributes nothing. *)
Lemma divergence_quotient n f b a p q :
  f 1 = 0 -> (forall k, (k <= n)%nat -> 0 < q k) -> total n p = total n q ->
  divergence n f p q
  = total n (fun k => q k * (quotient f b a (p k / q k - 1) * (p k / q k - 1) ^ 2)).
Proof.
  intros Hf Hq Hp. unfold divergence.
  rewrite (total_ext n (fun k => q k * (_ * _))
    (fun k => q k * f (p k / q k) - b * (p k - q k))).
  - rewrite total_minus, total_scal_l, total_minus, Hp. ring.
  - intros k Hk. specialize (Hq k Hk). rewrite quotient_times by exact Hf.
    replace (1 + (p k / q k - 1)) with (p k / q k) by ring. field. lra.
Qed.

(** T7. *)
Theorem divergence_limit :
  forall n f f1 a z v,
    f 1 = 0 -> twice_differentiable_at_1 f f1 a ->
    is_lim (fun T => T ^ 2 * divergence n f (softmax n T v) (softmax n T z)) p_infty
      (a / 2 * variance n (fun k => z k - v k)).
Proof.
  intros n f f1 a z v Hf H. set (d := fun k => z k - v k).
  set (h := fun T k => softmax n T v k / softmax n T z k - 1).
  set (Q := quotient f (f1 1) a).
  apply (is_lim_ext (fun T => total n (fun k =>
    softmax n T z k * (Q (h T k) * ((T * h T k) * (T * h T k)))))).
  { intros T. rewrite (divergence_quotient n f (f1 1) a).
    - rewrite <- total_scal_l. apply total_ext; intros k _. unfold h, Q. ring.
    - exact Hf.
    - intros; apply softmax_pos.
    - rewrite !softmax_total. reflexivity. }
  replace (a / 2 * variance n d) with (total n (fun k =>
    / classes n * (a / 2 * ((mean n d - d k) * (mean n d - d k))))).
  - apply (is_lim_total n (fun T k =>
      softmax n T z k * (Q (h T k) * ((T * h T k) * (T * h T k))))).
    intros k Hk. pose proof (is_lim_ratio n z v k Hk) as L. fold d in L.
    assert (L0 : is_lim (fun T => h T k) p_infty 0).
    { apply (is_lim_ext_loc (fun T => / T * (T * h T k))).
      - exists 0. intros T HT. field. lra.
      - replace (Finite 0) with (Finite (0 * (mean n d - d k))) by (f_equal; ring).
        apply (limit_mult Rinv (fun T => T * h T k)); [apply is_lim_inverse|exact L]. }
    apply (limit_mult (fun T => softmax n T z k)); [apply is_lim_softmax, Hk|].
    apply (limit_mult (fun T => Q (h T k))).
    + replace (a / 2) with (Q 0)
        by (unfold Q, quotient; destruct (Req_EM_T 0 0); [reflexivity|contradiction]).
      apply (is_lim_comp_continuous (fun T => h T k) Q p_infty 0); [exact L0|].
      apply quotient_continuous; assumption.
    + apply (limit_mult (fun T => T * h T k)); exact L.
  - unfold variance, mean at 3. unfold Rdiv at 3. rewrite <- total_scal_r, <- total_scal_l.
    apply total_ext; intros k _. unfold Rdiv; ring.
Qed.

(** * Instances *)

Definition reverse_kl (n : nat) (p q : vec) : R := kl n q p.
Definition chi_squared (n : nat) (p q : vec) : R :=
  total n (fun k => (p k - q k) ^ 2 / q k).
Definition hellinger (n : nat) (p q : vec) : R :=
  total n (fun k => (sqrt (p k) - sqrt (q k)) ^ 2).
Definition jensen_shannon (n : nat) (p q : vec) : R :=
  let m := fun k => (p k + q k) / 2 in (kl n p m + kl n q m) / 2.

(** The limit of a loss that is an f-divergence of predictions. *)
Lemma instance_limit n f f1 (loss : vec -> vec -> R) z v :
  f 1 = 0 -> twice_differentiable_at_1 f f1 1 ->
  (forall p q, (forall k, 0 < p k) -> (forall k, 0 < q k) ->
     loss p q = divergence n f p q) ->
  is_lim (fun T => T ^ 2 * loss (softmax n T v) (softmax n T z)) p_infty
    (variance n (fun k => z k - v k) / 2).
Proof.
  intros Hf H E.
  replace (variance n (fun k => z k - v k) / 2)
    with (1 / 2 * variance n (fun k => z k - v k)) by field.
  apply (is_lim_ext (fun T => T ^ 2 * divergence n f (softmax n T v) (softmax n T z))).
  - intros T. rewrite E by (intros; apply softmax_pos). reflexivity.
  - apply (divergence_limit n f f1); assumption.
Qed.

(** A function with derivatives at all positive numbers. *)
Lemma twice_differentiable_positive f f1 a :
  (forall t, 0 < t -> is_derive f t (f1 t)) -> is_derive f1 1 a ->
  twice_differentiable_at_1 f f1 a.
Proof.
  intros H1 H2. split; [|apply is_derive_Reals, H2].
  exists 1; split; [lra|]. intros t Ht. apply is_derive_Reals, H1.
  apply Rabs_def2 in Ht. lra.
Qed.

(** T7 for distillation: [f t = t ln t]. *)
Theorem forward_kl_limit :
  forall n z v,
    is_lim (fun T => T ^ 2 * kl n (softmax n T v) (softmax n T z)) p_infty
      (variance n (fun k => z k - v k) / 2).
Proof.
  intros n z v. apply (instance_limit n (fun t => t * ln t) (fun t => ln t + 1)).
  - rewrite ln_1; ring.
  - apply twice_differentiable_positive; intros; auto_derive; trivial; try lra; field; lra.
  - intros p q P Q. apply total_ext; intros k _. specialize (Q k). field. lra.
Qed.

(** T7 for the reverse divergence: [f t = - ln t]. *)
Theorem reverse_kl_limit :
  forall n z v,
    is_lim (fun T => T ^ 2 * reverse_kl n (softmax n T v) (softmax n T z)) p_infty
      (variance n (fun k => z k - v k) / 2).
Proof.
  intros n z v. apply (instance_limit n (fun t => - ln t) (fun t => - / t)).
  - rewrite ln_1; ring.
  - apply twice_differentiable_positive; intros; auto_derive; trivial; try lra; field; lra.
  - intros p q P Q. apply total_ext; intros k _. specialize (P k). specialize (Q k).
    rewrite !ln_div by assumption. ring.
Qed.

(** T7 for half of chi-squared: [f t = (t - 1)^2 / 2]. *)
Theorem chi_squared_limit :
  forall n z v,
    is_lim (fun T => T ^ 2 * (chi_squared n (softmax n T v) (softmax n T z) / 2)) p_infty
      (variance n (fun k => z k - v k) / 2).
Proof.
  intros n z v.
  apply (instance_limit n (fun t => (t - 1) ^ 2 / 2) (fun t => t - 1)
           (fun p q => chi_squared n p q / 2)).
  - field.
  - apply twice_differentiable_positive; intros; auto_derive; trivial; field.
  - intros p q P Q. unfold chi_squared. rewrite <- total_div.
    apply total_ext; intros k _. specialize (Q k). field. lra.
Qed.

(** T7 for twice squared Hellinger: [f t = 2 (sqrt t - 1)^2]. *)
Theorem hellinger_limit :
  forall n z v,
    is_lim (fun T => T ^ 2 * (2 * hellinger n (softmax n T v) (softmax n T z))) p_infty
      (variance n (fun k => z k - v k) / 2).
Proof.
  intros n z v.
  apply (instance_limit n (fun t => 2 * (sqrt t - 1) ^ 2) (fun t => 2 - 2 / sqrt t)
           (fun p q => 2 * hellinger n p q)).
  - rewrite sqrt_1; ring.
  - apply twice_differentiable_positive.
    + intros t Ht. pose proof (sqrt_lt_R0 t Ht). auto_derive; [exact Ht|]. field. lra.
    + auto_derive; rewrite sqrt_1; [split; lra|field].
  - intros p q P Q. unfold hellinger. rewrite <- total_scal_l.
    apply total_ext; intros k _. specialize (P k). specialize (Q k).
    rewrite sqrt_div_alt by exact Q. pose proof (sqrt_lt_R0 _ Q).
    pose proof (sqrt_sqrt (q k) (Rlt_le _ _ Q)) as S.
    set (s := sqrt (q k)) in *. rewrite <- S. field. lra.
Qed.

(** T7 for four times Jensen-Shannon: [f t = 2 (t ln t - (1 + t) ln ((1 + t) / 2))]. *)
Theorem jensen_shannon_limit :
  forall n z v,
    is_lim (fun T => T ^ 2 * (4 * jensen_shannon n (softmax n T v) (softmax n T z)))
      p_infty (variance n (fun k => z k - v k) / 2).
Proof.
  intros n z v.
  apply (instance_limit n (fun t => 2 * (t * ln t - (1 + t) * ln ((1 + t) / 2)))
           (fun t => 2 * (ln t - ln ((1 + t) / 2))) (fun p q => 4 * jensen_shannon n p q)).
  - replace ((1 + 1) / 2) with 1 by field. rewrite ln_1; ring.
  - apply twice_differentiable_positive.
    + intros t Ht. auto_derive; [split; [exact Ht|split; [lra|trivial]]|].
      unfold Rdiv. field. lra.
    + auto_derive; [split; [lra|split; [lra|trivial]]|]. field.
  - intros p q P Q. unfold jensen_shannon, kl, divergence, Rdiv at 1.
    rewrite <- total_plus, <- Rmult_assoc, <- total_scal_l, <- total_scal_r.
    apply total_ext; intros k _. specialize (P k). specialize (Q k).
    replace ((1 + p k / q k) / 2) with ((p k + q k) / 2 / q k) by (field; lra).
    rewrite !ln_div by lra. field. lra.
Qed.

(** * Total variation *)

Definition total_variation (n : nat) (p q : vec) : R :=
  total n (fun k => Rabs (p k - q k)) / 2.

(** Total variation, whose function has a kink at 1, falls like 1 / T. *)
Theorem total_variation_limit :
  forall n z v,
    let d := fun k => z k - v k in
    is_lim (fun T => T * total_variation n (softmax n T v) (softmax n T z)) p_infty
      (mean n (fun k => Rabs (d k - mean n d)) / 2).
Proof.
  intros n z v d.
  apply (is_lim_ext_loc (fun T => total n (fun k =>
    Rabs (T * (softmax n T z k - softmax n T v k)) * / 2))).
  { exists 0. intros T HT. unfold total_variation, Rdiv.
    rewrite <- Rmult_assoc, <- total_scal_l, <- total_scal_r.
    apply total_ext; intros k _.
    rewrite Rabs_mult, (Rabs_pos_eq T), (Rabs_minus_sym (softmax n T z k)) by lra.
    reflexivity. }
  replace (mean n (fun k => Rabs (d k - mean n d)) / 2) with (total n (fun k =>
    Rabs ((d k - mean n d) / classes n) * / 2)).
  - apply (is_lim_total n
      (fun T k => Rabs (T * (softmax n T z k - softmax n T v k)) * / 2)).
    intros k Hk. apply limit_mult; [|apply is_lim_const].
    apply (is_lim_comp_continuous (fun T => T * (softmax n T z k - softmax n T v k)) Rabs).
    + apply (kd_gradient_limit n z v
               (fun T j => T * (softmax n T z j - softmax n T v j)) k Hk).
      intros T HT. apply kd_gradient. lra.
    + apply (continuous_Rabs ((d k - mean n d) / classes n)).
  - unfold mean at 2. unfold Rdiv at 2 3. rewrite <- !total_scal_r.
    apply total_ext; intros k _. unfold Rdiv. rewrite Rabs_mult.
    rewrite (Rabs_pos_eq (/ classes n)); [reflexivity|].
    left; apply Rinv_0_lt_compat, classes_pos.
Qed.

(** T7 does not hold for total variation: times [T ^ 2] it grows without bound, unless
    teacher and student agree up to a shift. *)
Theorem total_variation_diverges :
  forall n z v k, (k <= n)%nat ->
    let d := fun j => z j - v j in
    d k <> mean n d ->
    is_lim (fun T => T ^ 2 * total_variation n (softmax n T v) (softmax n T z)) p_infty
      p_infty.
Proof.
  intros n z v k Hk d N. set (l := mean n (fun j => Rabs (d j - mean n d)) / 2).
  assert (L : 0 < l).
  { unfold l, mean at 1. apply Rdiv_lt_0_compat; [|lra].
    apply Rdiv_lt_0_compat; [|apply classes_pos].
    apply Rlt_le_trans with (Rabs (d k - mean n d)); [apply Rabs_pos_lt; lra|].
    apply (term_le_total n (fun j => Rabs (d j - mean n d))); [|exact Hk].
    intros; apply Rabs_pos. }
  apply (is_lim_ext (fun T =>
    T * (T * total_variation n (softmax n T v) (softmax n T z)))); [intros; ring|].
  assert (E : Rbar_mult p_infty l = p_infty).
  { simpl. destruct (Rle_dec 0 l) as [H|H]; [|lra].
    destruct (Rle_lt_or_eq_dec 0 l H); [reflexivity|lra]. }
  pose proof (is_lim_mult (fun T => T)
    (fun T => T * total_variation n (softmax n T v) (softmax n T z)) p_infty p_infty l)
    as M. rewrite E in M.
  apply M; [apply is_lim_id|apply total_variation_limit|simpl; lra].
Qed.
