(** T5. The expansion in 1/T.

    With joint cumulants kappa over the classes, and [d = z - v],
    [L_T = kappa(d,d) / 2 + (kappa(v,d,d) / 2 + kappa(d,d,d) / 6) / T
         + (kappa(v,v,d,d) / 4 + kappa(v,d,d,d) / 6 + kappa(d,d,d,d) / 24) / T ^ 2]
    up to terms that are small compared with [1 / T ^ 2] as T grows. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives Limits T02.
Open Scope R_scope.

(** * Joint cumulants *)

Definition centered (n : nat) (x : vec) : vec := fun k => x k - mean n x.

(** The means of products of centered vectors. *)
Definition moment_2 (n : nat) (x y : vec) : R :=
  mean n (fun k => centered n x k * centered n y k).
Definition moment_3 (n : nat) (x y w : vec) : R :=
  mean n (fun k => centered n x k * centered n y k * centered n w k).
Definition moment_4 (n : nat) (x y w u : vec) : R :=
  mean n (fun k => centered n x k * centered n y k * centered n w k * centered n u k).

(** Up to the third, cumulants are such moments; the fourth subtracts the pairs. *)
Definition cumulant_3 := moment_3.
Definition cumulant_4 (n : nat) (x y w u : vec) : R :=
  moment_4 n x y w u - moment_2 n x y * moment_2 n w u
  - moment_2 n x w * moment_2 n y u - moment_2 n x u * moment_2 n y w.

(** * Taylor's formula of fourth order *)

(** [g] is small compared with the power [m] near 0. *)
Definition small (m : nat) (g : R -> R) : Prop :=
  forall eps, 0 < eps -> exists delta, 0 < delta /\
    forall t, Rabs t < delta -> Rabs (g t) <= eps * Rabs t ^ m.

Lemma small_derivative g : g 0 = 0 -> is_derive g 0 0 -> small 1 g.
Proof.
  intros g0 H eps eps_pos. apply is_derive_Reals in H.
  destruct (H eps eps_pos) as [[delta Hdelta] Hd]; simpl in Hd.
  exists delta; split; [exact Hdelta|]. intros t Ht.
  destruct (Req_dec t 0) as [->|N].
  - rewrite g0, Rabs_R0. lra.
  - specialize (Hd t N Ht). rewrite Rplus_0_l, g0, !Rminus_0_r in Hd.
    rewrite Rabs_div in Hd by exact N. pose proof (Rabs_pos_lt t N) as P.
    apply (Rmult_lt_compat_r (Rabs t)) in Hd; [|exact P].
    replace (Rabs (g t) / Rabs t * Rabs t) with (Rabs (g t)) in Hd by (field; lra).
    lra.
Qed.

Lemma small_integrated m g g1 :
  g 0 = 0 -> (forall t, is_derive g t (g1 t)) -> small m g1 -> small (S m) g.
Proof.
  intros g0 D H eps eps_pos. destruct (H eps eps_pos) as [delta [Hdelta Hd]].
  exists delta; split; [exact Hdelta|]. intros t Ht.
  destruct (MVT_gen g 0 t g1) as [s [Hs E]].
  - intros x _. apply D.
  - intros x _. apply continuity_pt_filterlim, (ex_derive_continuous g).
    exists (g1 x). apply D.
  - assert (I : Rabs s <= Rabs t).
    { unfold Rmin, Rmax in Hs. destruct (Rle_dec 0 t) as [L|L]; unfold Rabs;
        destruct (Rcase_abs s), (Rcase_abs t); lra. }
    rewrite g0, !Rminus_0_r in E. rewrite E, Rabs_mult. simpl.
    rewrite (Rmult_comm (Rabs t)), <- Rmult_assoc.
    apply Rmult_le_compat_r; [apply Rabs_pos|].
    eapply Rle_trans; [apply Hd; lra|].
    apply Rmult_le_compat_l; [lra|]. apply pow_incr. split; [apply Rabs_pos|exact I].
Qed.

(** Differentiate sums and products of functions whose derivatives are among the
    hypotheses. *)
Ltac differentiate :=
  lazymatch goal with
  | |- is_derive (fun t => @?f t + @?g t) _ _ => apply derive_plus; differentiate
  | |- is_derive (fun t => @?f t - @?g t) _ _ => apply derive_minus; differentiate
  | |- is_derive (fun t => @?f t * @?g t) _ _ => apply derive_mult; differentiate
  | |- is_derive (fun t => t) _ _ => apply derive_id
  | |- is_derive (Rmult ?c) ?t _ => exact (derive_scal (fun s => s) c t 1 (derive_id t))
  | |- is_derive ?f _ _ =>
      match goal with
      | H : forall e, is_derive f e _ |- _ => exact (H _)
      | H : is_derive f _ _ |- _ => exact H
      | _ => apply derive_const
      end
  end.

Lemma taylor_4 (f f1 f2 f3 : R -> R) (f4 : R) :
  f 0 = 0 -> f1 0 = 0 ->
  (forall t, is_derive f t (f1 t)) -> (forall t, is_derive f1 t (f2 t)) ->
  (forall t, is_derive f2 t (f3 t)) -> is_derive f3 0 f4 ->
  small 4 (fun t => f t - f2 0 / 2 * (t * t) - f3 0 / 6 * (t * t * t)
                    - f4 / 24 * (t * t * t * t)).
Proof.
  intros E0 E1 D0 D1 D2 D3.
  apply (small_integrated 3 _ (fun t => f1 t - f2 0 * t - f3 0 / 2 * (t * t)
                                        - f4 / 6 * (t * t * t))).
  { rewrite E0; ring. }
  { intros t. eapply is_derive_eq; [differentiate|cbv beta; field]. }
  apply (small_integrated 2 _ (fun t => f2 t - f2 0 - f3 0 * t - f4 / 2 * (t * t))).
  { rewrite E1; ring. }
  { intros t. eapply is_derive_eq; [differentiate|cbv beta; field]. }
  apply (small_integrated 1 _ (fun t => f3 t - f3 0 - f4 * t)).
  { ring. }
  { intros t. eapply is_derive_eq; [differentiate|cbv beta; field]. }
  apply small_derivative; [ring|].
  eapply is_derive_eq; [differentiate|cbv beta; ring].
Qed.

(** * Moments along a ray *)

(** The mean of [y] under the predictions [softmax (e x)]. *)
Definition along (n : nat) (x y : vec) (e : R) : R :=
  expectation n (softmax n 1 (ray x e)) y.

Lemma is_derive_along n x y e :
  is_derive (along n x y) e
    (along n x (fun k => x k * y k) e - along n x x e * along n x y e).
Proof.
  eapply is_derive_eq; [apply (is_derive_expectation n 1 (ray x) e x y), moves_ray|].
  unfold along. field.
Qed.

Lemma along_0 n x y : along n x y 0 = mean n y.
Proof.
  unfold along. rewrite mean_expectation. apply expectation_ext; [|reflexivity].
  intros; apply softmax_ray_0.
Qed.

Lemma is_derive_log_ray n x e :
  is_derive (fun t => log_total n 1 (ray x t)) e (along n x x e).
Proof.
  eapply is_derive_eq; [apply is_derive_log_total, moves_ray|]. unfold along. field.
Qed.

(** * The expansion, for centered logits *)

Section Expansion.
Variables (n : nat) (v d : vec).
Hypothesis mean_v : mean n v = 0.
Hypothesis mean_d : mean n d = 0.

Let z : vec := fun k => v k + d k.

(** Powers of logits, and with d: the i-th function is the derivative of the one before
    it up to a product. *)
Let A1 := along n z z.
Let A2 := along n z (fun k => z k * z k).
Let A3 := along n z (fun k => z k * (z k * z k)).
Let A4 := along n z (fun k => z k * (z k * (z k * z k))).
Let a1 := along n v v.
Let a2 := along n v (fun k => v k * v k).
Let a3 := along n v (fun k => v k * (v k * v k)).
Let a4 := along n v (fun k => v k * (v k * (v k * v k))).
Let b0 := along n v d.
Let b1 := along n v (fun k => v k * d k).
Let b2 := along n v (fun k => v k * (v k * d k)).
Let b3 := along n v (fun k => v k * (v k * (v k * d k))).
Let b4 := along n v (fun k => v k * (v k * (v k * (v k * d k)))).

Let dA1 e : is_derive A1 e (A2 e - A1 e * A1 e) := is_derive_along n z z e.
Let dA2 e : is_derive A2 e (A3 e - A1 e * A2 e) := is_derive_along n z _ e.
Let dA3 e : is_derive A3 e (A4 e - A1 e * A3 e) := is_derive_along n z _ e.
Let da1 e : is_derive a1 e (a2 e - a1 e * a1 e) := is_derive_along n v v e.
Let da2 e : is_derive a2 e (a3 e - a1 e * a2 e) := is_derive_along n v _ e.
Let da3 e : is_derive a3 e (a4 e - a1 e * a3 e) := is_derive_along n v _ e.
Let db0 e : is_derive b0 e (b1 e - a1 e * b0 e) := is_derive_along n v d e.
Let db1 e : is_derive b1 e (b2 e - a1 e * b1 e) := is_derive_along n v _ e.
Let db2 e : is_derive b2 e (b3 e - a1 e * b2 e) := is_derive_along n v _ e.
Let db3 e : is_derive b3 e (b4 e - a1 e * b3 e) := is_derive_along n v _ e.

(** The loss times [e ^ 2], as a function of [e = 1 / T], and its derivatives. *)
Definition rescaled (e : R) : R :=
  log_total n 1 (ray z e) - log_total n 1 (ray v e) - e * b0 e.
Let m1 e := b1 e - a1 e * b0 e.
Let m2 e := b2 e - 2 * (a1 e * b1 e) - a2 e * b0 e + 2 * (a1 e * a1 e * b0 e).
Let m3 e := b3 e - 3 * (a1 e * b2 e) - 3 * (a2 e * b1 e) + 6 * (a1 e * a1 e * b1 e)
            - a3 e * b0 e + 6 * (a1 e * a2 e * b0 e) - 6 * (a1 e * a1 e * a1 e * b0 e).
Let F1 e := A1 e - a1 e - b0 e - e * m1 e.
Let F2 e := A2 e - A1 e * A1 e - (a2 e - a1 e * a1 e) - 2 * m1 e - e * m2 e.
Let F3 e := A3 e - 3 * (A1 e * A2 e) + 2 * (A1 e * A1 e * A1 e)
            - (a3 e - 3 * (a1 e * a2 e) + 2 * (a1 e * a1 e * a1 e))
            - 3 * m2 e - e * m3 e.

Let dm1 e : is_derive m1 e (m2 e).
Proof. unfold m1, m2. eapply is_derive_eq; [differentiate|cbv beta; ring]. Qed.

Let dm2 e : is_derive m2 e (m3 e).
Proof. unfold m2, m3. eapply is_derive_eq; [differentiate|cbv beta; ring]. Qed.

Let dm3 e : exists l, is_derive m3 e l.
Proof. unfold m3. eexists. differentiate. Qed.

Let dF e : is_derive rescaled e (F1 e).
Proof.
  unfold rescaled, F1, m1. eapply is_derive_eq.
  - apply derive_minus; [apply derive_minus; apply is_derive_log_ray|differentiate].
  - cbv beta. unfold A1, a1. ring.
Qed.

Let dF1 e : is_derive F1 e (F2 e).
Proof. unfold F1, F2. eapply is_derive_eq; [differentiate|cbv beta; unfold m1; ring]. Qed.

Let dF2 e : is_derive F2 e (F3 e).
Proof.
  unfold F2, F3. eapply is_derive_eq; [differentiate|cbv beta; unfold m1, m2; ring].
Qed.

(** The fourth derivative at 0, where [A1 = a1 = b0 = 0]. *)
Let F4 := A4 0 - 3 * (A2 0 * A2 0) - (a4 0 - 3 * (a2 0 * a2 0))
          - 4 * (b3 0 - 3 * (a2 0 * b1 0)).

Let at_0 : A1 0 = 0 /\ a1 0 = 0 /\ b0 0 = 0.
Proof.
  unfold A1, a1, b0. rewrite !along_0, mean_v, mean_d. repeat split.
  transitivity (mean n v + mean n d); [|rewrite mean_v, mean_d; ring].
  unfold mean, z. rewrite total_plus. unfold Rdiv; ring.
Qed.

Let dF3 : is_derive F3 0 F4.
Proof.
  destruct at_0 as [Z1 [Z2 Z3]]. destruct (dm3 0) as [l dl].
  unfold F3. eapply is_derive_eq.
  - differentiate.
  - cbv beta. unfold F4, m3. rewrite Z1, Z2, Z3. ring.
Qed.

Let expansion : small 4 (fun e => rescaled e - F2 0 / 2 * (e * e)
  - F3 0 / 6 * (e * e * e) - F4 / 24 * (e * e * e * e)).
Proof.
  destruct at_0 as [Z1 [Z2 Z3]].
  apply (taylor_4 rescaled F1 F2 F3 F4); trivial.
  - unfold rescaled. rewrite Z3. replace (log_total n 1 (ray z 0))
      with (log_total n 1 (ray v 0)); [ring|].
    apply log_total_ext; intros; unfold ray; ring.
  - unfold F1. rewrite Z1, Z2, Z3. ring.
Qed.

Let mean_plus x y : mean n (fun k => x k + y k) = mean n x + mean n y.
Proof. unfold mean. rewrite total_plus. unfold Rdiv; ring. Qed.

Let mean_scal c x : mean n (fun k => c * x k) = c * mean n x.
Proof. unfold mean. rewrite total_scal_l. unfold Rdiv; ring. Qed.

(** The coefficients, by expanding the powers of [z = v + d]. *)
Let coefficient_2 : F2 0 = mean n (fun k => d k * d k).
Proof.
  destruct at_0 as [Z1 [Z2 Z3]]. unfold F2, m1, A2, a2, b1.
  rewrite Z1, Z2, Z3, !along_0.
  rewrite (mean_ext n (fun k => z k * z k)
    (fun k => v k * v k + (2 * (v k * d k) + d k * d k))) by (intros; unfold z; ring).
  rewrite !mean_plus, mean_scal. ring.
Qed.

Let coefficient_3 : F3 0 =
  3 * mean n (fun k => v k * d k * d k) + mean n (fun k => d k * d k * d k).
Proof.
  destruct at_0 as [Z1 [Z2 Z3]]. unfold F3, m2, A3, a3, b2.
  rewrite Z1, Z2, Z3, !along_0.
  rewrite (mean_ext n (fun k => z k * (z k * z k))
    (fun k => v k * (v k * v k) + (3 * (v k * (v k * d k))
              + (3 * (v k * d k * d k) + d k * d k * d k)))) by (intros; unfold z; ring).
  rewrite !mean_plus, !mean_scal. ring.
Qed.

Let M2 x y := mean n (fun k => x k * y k).
Let M4 x y w u := mean n (fun k => x k * y k * w k * u k).

Let coefficient_4 : F4 =
  6 * (M4 v v d d - M2 v v * M2 d d - M2 v d * M2 v d - M2 v d * M2 v d)
  + 4 * (M4 v d d d - M2 v d * M2 d d - M2 v d * M2 d d - M2 v d * M2 d d)
  + (M4 d d d d - M2 d d * M2 d d - M2 d d * M2 d d - M2 d d * M2 d d).
Proof.
  unfold F4, A4, A2, a4, a2, b3, b1, M2, M4. rewrite !along_0.
  rewrite (mean_ext n (fun k => z k * z k)
    (fun k => v k * v k + (2 * (v k * d k) + d k * d k))) by (intros; unfold z; ring).
  rewrite (mean_ext n (fun k => z k * (z k * (z k * z k)))
    (fun k => v k * (v k * (v k * v k)) + (4 * (v k * (v k * (v k * d k)))
      + (6 * (v k * v k * d k * d k) + (4 * (v k * d k * d k * d k)
      + d k * d k * d k * d k))))) by (intros; unfold z; ring).
  rewrite !mean_plus, !mean_scal. ring.
Qed.

Let kd_rescaled T : 0 < T -> kd n T z v = T ^ 2 * rescaled (/ T).
Proof.
  intros HT. unfold kd. rewrite kl_softmax. unfold rescaled, b0, along.
  rewrite (log_total_ray n T z), (log_total_ray n T v).
  replace (expectation n (softmax n T v) (fun k => (v k - z k) / T))
    with (- (/ T * expectation n (softmax n 1 (ray v (/ T))) d)); [ring|].
  unfold expectation. rewrite <- total_scal_l, <- total_opp.
  apply total_ext; intros k _. rewrite (softmax_ray n T v). unfold z, Rdiv. ring.
Qed.

Definition second_coefficient : R := mean n (fun k => d k * d k) / 2.
Definition third_coefficient : R :=
  mean n (fun k => v k * d k * d k) / 2 + mean n (fun k => d k * d k * d k) / 6.
Definition fourth_coefficient : R :=
  (M4 v v d d - M2 v v * M2 d d - M2 v d * M2 v d - M2 v d * M2 v d) / 4
  + (M4 v d d d - M2 v d * M2 d d - M2 v d * M2 d d - M2 v d * M2 d d) / 6
  + (M4 d d d d - M2 d d * M2 d d - M2 d d * M2 d d - M2 d d * M2 d d) / 24.

Lemma centered_expansion :
  is_lim (fun T => T ^ 2 * (kd n T z v - second_coefficient - third_coefficient / T))
    p_infty fourth_coefficient.
Proof.
  replace fourth_coefficient with (F4 / 24)
    by (rewrite coefficient_4; unfold fourth_coefficient; field).
  replace second_coefficient with (F2 0 / 2)
    by (rewrite coefficient_2; unfold second_coefficient; field).
  replace third_coefficient with (F3 0 / 6)
    by (rewrite coefficient_3; unfold third_coefficient; field).
  apply limit_intro. intros eps eps_pos.
  destruct (expansion (eps / 2)) as [delta [Hdelta H]]; [lra|].
  exists (/ delta). intros T HT. pose proof (Rinv_0_lt_compat _ Hdelta) as P.
  assert (T0 : 0 < T) by lra. assert (I0 : 0 < / T) by (apply Rinv_0_lt_compat, T0).
  assert (Ht : Rabs (/ T) < delta).
  { rewrite Rabs_pos_eq by lra. rewrite <- (Rinv_inv delta).
    apply Rinv_lt_contravar; [|exact HT]. apply Rmult_lt_0_compat; lra. }
  specialize (H (/ T) Ht). cbv beta in H. rewrite (Rabs_pos_eq (/ T)) in H by lra.
  rewrite kd_rescaled by exact T0.
  match type of H with Rabs ?r <= _ =>
    replace (T ^ 2 * (T ^ 2 * rescaled (/ T) - F2 0 / 2 - F3 0 / 6 / T) - F4 / 24)
      with (T ^ 4 * r) by (field; lra)
  end.
  assert (T4 : 0 < T ^ 4) by (apply pow_lt, T0).
  rewrite Rabs_mult, (Rabs_pos_eq (T ^ 4)) by lra.
  apply (Rmult_le_compat_l (T ^ 4)) in H; [|lra].
  replace (T ^ 4 * (eps / 2 * (/ T) ^ 4)) with (eps / 2) in H by (field; lra).
  lra.
Qed.
End Expansion.

(** * The theorems *)

Lemma mean_centered n x : mean n (centered n x) = 0.
Proof. unfold mean at 1, centered. rewrite total_centered. unfold Rdiv; ring. Qed.

(** The loss does not change if teacher and student are shifted. *)
Lemma kd_shifted n T z v y x b c :
  (forall k, y k = shift z b k) -> (forall k, x k = shift v c k) ->
  kd n T z v = kd n T y x.
Proof.
  intros Hy Hx. unfold kd, kl. f_equal. apply total_ext; intros k Hk.
  rewrite (softmax_ext n T y (shift z b) k), (softmax_ext n T x (shift v c) k) by auto.
  rewrite !softmax_shift. reflexivity.
Qed.

(** The variance is the second cumulant. *)
Lemma variance_moment n x : variance n x = moment_2 n x x.
Proof. apply mean_ext; intros; unfold centered; ring. Qed.

(** T5, up to the order of [1 / T ^ 2]. *)
Theorem kd_second_order :
  forall n z v,
    let d := fun k => z k - v k in
    is_lim (fun T => T ^ 2 * (kd n T z v - variance n d / 2
                - (cumulant_3 n v d d / 2 + cumulant_3 n d d d / 6) / T)) p_infty
      (cumulant_4 n v v d d / 4 + cumulant_4 n v d d d / 6 + cumulant_4 n d d d d / 24).
Proof.
  intros n z v d.
  pose proof (centered_expansion n (centered n v) (centered n d)
    (mean_centered n v) (mean_centered n d)) as H.
  rewrite variance_moment.
  eapply is_lim_ext; [|exact H]. intros T. cbv beta.
  rewrite <- (kd_shifted n T z v _ (centered n v) (- (mean n v + mean n d)) (- mean n v)).
  - reflexivity.
  - intros k. unfold centered, shift, d. ring.
  - intros k. unfold centered, shift. ring.
Qed.

(** T5, up to the order of [1 / T]. *)
Theorem kd_first_order :
  forall n z v,
    let d := fun k => z k - v k in
    is_lim (fun T => T * (kd n T z v - variance n d / 2)) p_infty
      (cumulant_3 n v d d / 2 + cumulant_3 n d d d / 6).
Proof.
  intros n z v d. set (c := cumulant_3 n v d d / 2 + cumulant_3 n d d d / 6).
  pose proof (kd_second_order n z v) as H. cbv zeta in H. fold d in H. fold c in H.
  set (e := cumulant_4 n v v d d / 4 + _ + _) in H.
  apply (is_lim_ext_loc (fun T => c + / T *
    (T ^ 2 * (kd n T z v - variance n d / 2 - c / T)))).
  - exists 0. intros T HT. field. lra.
  - replace (Finite c) with (Finite (c + 0 * e)) by (f_equal; ring).
    apply (is_lim_plus' (fun _ => c)); [apply is_lim_const|].
    apply (limit_mult Rinv); [apply is_lim_inverse|exact H].
Qed.
