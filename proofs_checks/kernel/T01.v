(** T1. The gradient sums to zero.

    If [f (z + c 1) = f z] for every number c, then the partial derivatives of [f] sum to
    zero, and conversely: if they sum to zero everywhere, then adding a number to every
    class does not change [f].

    The general statements need a total derivative, because partial derivatives alone
    say nothing about the direction [1]: [differentiable_at n f z g] is differentiability
    in the sense of Frechet, with gradient [g]. Cross-entropy, distillation and logits
    matching need no assumption. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives.
Open Scope R_scope.

(** Near [z], the loss is [f z + sum g_k (y_k - z_k)] up to an error that is small
    compared with the distance. *)
Definition differentiable_at (n : nat) (f : vec -> R) (z g : vec) : Prop :=
  forall eps, 0 < eps -> exists delta, 0 < delta /\
    forall y, (forall k, (k <= n)%nat -> Rabs (y k - z k) < delta) ->
      Rabs (f y - f z - total n (fun k => g k * (y k - z k)))
      <= eps * total n (fun k => Rabs (y k - z k)).

(** Along a straight line with direction [d], the derivative is the sum of [g_k d_k]. *)
Lemma differentiable_along n f z g (y : R -> vec) (d : vec) t :
  differentiable_at n f z g ->
  (forall s k, (k <= n)%nat -> y (t + s) k - z k = s * d k) ->
  f (y t) = f z ->
  derivable_pt_lim (fun s => f (y s)) t (total n (fun k => g k * d k)).
Proof.
  intros Hf Hy Ht eps eps_pos.
  set (D := total n (fun k => Rabs (d k)) + 1).
  assert (HD : forall k, (k <= n)%nat -> Rabs (d k) < D).
  { intros k Hk. unfold D.
    pose proof (term_le_total n (fun j => Rabs (d j)) k
                  (fun j _ => Rabs_pos (d j)) Hk). simpl in H; lra. }
  assert (D0 : 0 < D).
  { pose proof (Rabs_pos (d O)). pose proof (HD O (Nat.le_0_l n)). lra. }
  destruct (Hf (eps / (2 * D))) as [delta [Hdelta H]].
  { apply Rdiv_lt_0_compat; lra. }
  assert (Hr : 0 < delta / D) by (apply Rdiv_lt_0_compat; lra).
  exists (mkposreal _ Hr). intros s Hs0 Hs; simpl in Hs.
  assert (Hs1 : 0 < Rabs s) by (apply Rabs_pos_lt, Hs0).
  assert (Hsd : Rabs s * D < delta).
  { apply (Rmult_lt_compat_r D) in Hs; [|lra].
    replace (delta / D * D) with delta in Hs by (field; lra). exact Hs. }
  specialize (H (y (t + s))).
  assert (Hmax : total n (fun k => Rabs (y (t + s) k - z k)) <= Rabs s * D).
  { rewrite (total_ext n _ (fun k => Rabs s * Rabs (d k))).
    - rewrite total_scal_l. apply Rmult_le_compat_l; [lra|unfold D; lra].
    - intros k Hk. rewrite Hy by exact Hk. apply Rabs_mult. }
  rewrite (total_ext n (fun k => g k * (y (t + s) k - z k)) (fun k => s * (g k * d k)))
    in H by (intros k Hk; rewrite Hy by exact Hk; ring).
  rewrite total_scal_l in H. rewrite Ht.
  set (G := total n (fun k => g k * d k)) in *.
  replace ((f (y (t + s)) - f z) / s - G) with ((f (y (t + s)) - f z - s * G) / s)
    by (field; exact Hs0).
  rewrite Rabs_div by exact Hs0. apply Rmult_lt_reg_r with (Rabs s); [lra|].
  replace (Rabs (f (y (t + s)) - f z - s * G) / Rabs s * Rabs s)
    with (Rabs (f (y (t + s)) - f z - s * G)) by (field; lra).
  eapply Rle_lt_trans.
  - apply H. intros k Hk. rewrite Hy, Rabs_mult by exact Hk.
    eapply Rle_lt_trans; [|exact Hsd].
    apply Rmult_le_compat_l; [lra|]. left; apply HD, Hk.
  - eapply Rle_lt_trans; [apply Rmult_le_compat_l; [|exact Hmax]|].
    + left; apply Rdiv_lt_0_compat; lra.
    + replace (eps / (2 * D) * (Rabs s * D)) with (eps * Rabs s / 2) by (field; lra).
      pose proof (Rmult_lt_0_compat _ _ eps_pos Hs1). lra.
Qed.

Lemma differentiable_ext n f z y g :
  differentiable_at n f z g -> (forall k, (k <= n)%nat -> y k = z k) -> f y = f z.
Proof.
  intros Hf E. destruct (Hf 1 Rlt_0_1) as [delta [Hdelta H]]. specialize (H y).
  assert (E0 : forall k, (k <= n)%nat -> y k - z k = 0)
    by (intros k Hk; rewrite E by exact Hk; ring).
  rewrite (total_ext n (fun k => g k * (y k - z k)) (fun _ => 0)) in H
    by (intros k Hk; rewrite E0 by exact Hk; ring).
  rewrite (total_ext n (fun k => Rabs (y k - z k)) (fun _ => 0)) in H
    by (intros k Hk; rewrite E0 by exact Hk; apply Rabs_R0).
  rewrite !total_zero in H.
  assert (H0 : Rabs (f y - f z - 0) <= 1 * 0).
  { apply H. intros k Hk. rewrite E0, Rabs_R0 by exact Hk. exact Hdelta. }
  pose proof (Rabs_pos (f y - f z - 0)) as H1.
  assert (H2 : f y - f z - 0 = 0) by (destruct (Req_dec (f y - f z - 0) 0) as [|N];
    [assumption|apply Rabs_pos_lt in N; lra]). lra.
Qed.

(** The numbers [g] of a total derivative are the partial derivatives. *)
Theorem differentiable_gradient n f z g :
  differentiable_at n f z g -> gradient_at n f z g.
Proof.
  intros Hf k Hk. unfold partial_at.
  rewrite <- (total_onehot n k g Hk).
  apply (differentiable_along n f z g (bump z k) (onehot k)); [exact Hf| |].
  - intros s j _. unfold bump, onehot. destruct (Nat.eqb j k); ring.
  - apply (differentiable_ext n f z _ g Hf). intros; apply bump_0.
Qed.

Lemma differentiable_shift n f z g c :
  differentiable_at n f (shift z c) g ->
  derivable_pt_lim (fun t => f (shift z t)) c (total n g).
Proof.
  intros Hf. rewrite (total_ext n g (fun k => g k * 1)) by (intros; ring).
  apply (differentiable_along n f (shift z c) g (shift z) (fun _ => 1));
    [exact Hf| |reflexivity].
  intros; unfold shift; ring.
Qed.

Lemma derivable_constant (f : R -> R) t l c :
  derivable_pt_lim f t l -> (forall s, f s = c) -> l = 0.
Proof.
  intros H E. apply (derivative_unique f t l 0 H).
  apply is_derive_Reals, is_derive_ext with (f := fun _ => c); [intros; auto|].
  apply derive_const.
Qed.

(** T1: the gradient of a function that is invariant under shifts sums to zero. *)
Theorem zero_sum_gradient :
  forall n f z g,
    (forall c, f (shift z c) = f z) ->
    differentiable_at n f z g ->
    total n g = 0.
Proof.
  intros n f z g E Hf. eapply (derivable_constant (fun t => f (shift z t)) 0 _ (f z)).
  - apply differentiable_shift. intros eps eps_pos.
    destruct (Hf eps eps_pos) as [delta [Hd H]]. exists delta; split; [exact Hd|].
    rewrite E. assert (S0 : forall k, shift z 0 k = z k) by (intros; unfold shift; ring).
    intros y Hy. rewrite (total_ext n _ (fun k => g k * (y k - z k)))
      by (intros; rewrite S0; ring).
    rewrite (total_ext n (fun k => Rabs (y k - shift z 0 k)) (fun k => Rabs (y k - z k)))
      by (intros; rewrite S0; reflexivity).
    apply H. intros k Hk. rewrite <- (S0 k). apply Hy, Hk.
  - apply E.
Qed.

(** T1, conversely: a function whose gradient sums to zero everywhere is invariant under
    shifts. *)
Theorem zero_sum_gradient_converse :
  forall n f (g : vec -> vec),
    (forall z, differentiable_at n f z (g z)) ->
    (forall z, total n (g z) = 0) ->
    forall z c, f (shift z c) = f z.
Proof.
  intros n f g Hf Hg z c.
  assert (D : forall t, is_derive (fun s => f (shift z s)) t 0).
  { intros t. apply is_derive_Reals. rewrite <- (Hg (shift z t)).
    apply differentiable_shift, Hf. }
  assert (E : f (shift z c) = f (shift z 0)).
  { destruct (MVT_gen (fun s => f (shift z s)) 0 c (fun _ => 0)) as [x [_ Hx]].
    - intros; apply D.
    - intros x _. apply continuity_pt_filterlim.
      apply (ex_derive_continuous (fun s => f (shift z s))). exists 0; apply D.
    - lra. }
  rewrite E. apply (differentiable_ext n f z _ (g z) (Hf z)).
  intros; unfold shift; ring.
Qed.

(** * The losses *)

Lemma partial_of_derive f z k (a b : R) :
  is_derive (fun t => f (bump z k t)) 0 a -> a = b -> partial_at f z k b.
Proof. intros H E. rewrite <- E. apply is_derive_Reals, H. Qed.

Lemma softmax_bump_0 n T z k j :
  (j <= n)%nat -> softmax n T (bump z k 0) j = softmax n T z j.
Proof. intros Hj. apply softmax_ext; [intros; apply bump_0|exact Hj]. Qed.

Lemma expectation_bump_0 n T z k x :
  expectation n (softmax n T (bump z k 0)) x = expectation n (softmax n T z) x.
Proof.
  apply expectation_ext; [|reflexivity]. intros; apply softmax_bump_0; assumption.
Qed.

(** The gradient of cross-entropy is the prediction minus the label. *)
Theorem cross_entropy_gradient :
  forall n z y, (y <= n)%nat ->
    gradient_at n (fun x => cross_entropy n x y) z
      (fun k => softmax n 1 z k - onehot y k).
Proof.
  intros n z y Hy k Hk.
  apply (partial_of_derive _ z k
           (- (onehot k y / 1 - expectation n (softmax n 1 (bump z k 0)) (onehot k) / 1))).
  - apply is_derive_ext with
      (f := fun t => - (bump z k t y / 1 - log_total n 1 (bump z k t))).
    { intros t. unfold cross_entropy. rewrite ln_softmax. reflexivity. }
    apply (is_derive_opp (fun t => bump z k t y / 1 - log_total n 1 (bump z k t))).
    apply derive_minus; [apply derive_over, is_derive_bump|].
    apply is_derive_log_total, moves_bump.
  - rewrite expectation_bump_0, expectation_onehot by exact Hk.
    unfold onehot. rewrite (Nat.eqb_sym y k). field.
Qed.

(** The gradient of distillation is T times the distance of the predictions. *)
Theorem kd_gradient :
  forall n T z v, T <> 0 ->
    gradient_at n (fun x => kd n T x v) z
      (fun k => T * (softmax n T z k - softmax n T v k)).
Proof.
  intros n T z v HT k Hk.
  apply (partial_of_derive _ z k (T * (expectation n (softmax n T (bump z k 0)) (onehot k)
    - expectation n (softmax n T v) (onehot k)))).
  - apply is_derive_kd; [exact HT|apply moves_bump].
  - rewrite expectation_bump_0, !expectation_onehot by exact Hk. reflexivity.
Qed.

(** The gradient of logits matching. *)
Theorem matching_gradient :
  forall n z v,
    gradient_at n (fun x => matching n x v) z (fun k => (z k - v k) / classes n).
Proof.
  intros n z v k Hk.
  apply (partial_of_derive _ z k
    (total n (fun j => (z j - v j) * (2 * onehot k j)) / classes n / 2)).
  - unfold matching, mean. apply derive_over, derive_over.
    apply (is_derive_total n (fun t j => (bump z k t j - v j) ^ 2)
             (fun j => (z j - v j) * (2 * onehot k j))).
    intros j _. pose proof (is_derive_bump z k j 0) as Hb. unfold bump in *.
    eapply is_derive_eq.
    + apply (is_derive_pow (fun t => (if Nat.eqb j k then z j + t else z j) - v j) 2 0
               (onehot k j - 0)).
      apply derive_minus; [exact Hb|apply derive_const].
    + unfold onehot. destruct (Nat.eqb j k); simpl; ring.
  - rewrite (total_ext n _ (fun j => (z j - v j) * 2 * onehot k j)) by (intros; ring).
    unfold onehot. rewrite (total_onehot n k (fun j => (z j - v j) * 2) Hk).
    pose proof (classes_neq n). field; assumption.
Qed.

(** T1 for cross-entropy: whatever the gradient is said to be, it sums to zero. *)
Theorem cross_entropy_zero_sum :
  forall n z y g, (y <= n)%nat ->
    gradient_at n (fun x => cross_entropy n x y) z g -> total n g = 0.
Proof.
  intros n z y g Hy Hg.
  rewrite (total_ext n g (fun k => softmax n 1 z k - onehot y k)).
  - rewrite total_minus, softmax_total, onehot_total by exact Hy. ring.
  - intros k Hk. eapply derivative_unique; [apply (Hg k Hk)|].
    apply cross_entropy_gradient; assumption.
Qed.

(** T1 for distillation, at any temperature. *)
Theorem kd_zero_sum :
  forall n T z v g, T <> 0 ->
    gradient_at n (fun x => kd n T x v) z g -> total n g = 0.
Proof.
  intros n T z v g HT Hg.
  rewrite (total_ext n g (fun k => T * (softmax n T z k - softmax n T v k))).
  - rewrite total_scal_l, total_minus, !softmax_total. ring.
  - intros k Hk. eapply derivative_unique; [apply (Hg k Hk)|].
    apply kd_gradient; assumption.
Qed.

(** T1 does not hold for logits matching: its gradient sums to the mean of [z - v]. *)
Theorem matching_sum :
  forall n z v g,
    gradient_at n (fun x => matching n x v) z g ->
    total n g = mean n (fun k => z k - v k).
Proof.
  intros n z v g Hg. unfold mean. rewrite <- total_div. apply total_ext; intros k Hk.
  eapply derivative_unique; [apply (Hg k Hk)|]. apply matching_gradient; exact Hk.
Qed.

(** T1 for mixtures of the two, the loss of distillation with labels. *)
Theorem mixture_zero_sum :
  forall n T z v y a b g, T <> 0 -> (y <= n)%nat ->
    gradient_at n (fun x => a * cross_entropy n x y + b * kd n T x v) z g ->
    total n g = 0.
Proof.
  intros n T z v y a b g HT Hy Hg.
  rewrite (total_ext n g (fun k => a * (softmax n 1 z k - onehot y k)
                                   + b * (T * (softmax n T z k - softmax n T v k)))).
  - rewrite total_plus, !total_scal_l, !total_minus, !softmax_total, onehot_total
      by exact Hy.
    ring.
  - intros k Hk. eapply derivative_unique; [apply (Hg k Hk)|].
    apply is_derive_Reals, derive_plus; apply derive_scal, is_derive_Reals.
    + apply cross_entropy_gradient; assumption.
    + apply kd_gradient; assumption.
Qed.

(** The gradient in the teacher's logits: the prediction times the distance of [v - z]
    from its mean under the predictions. *)
Theorem kd_teacher_gradient :
  forall n T z v, T <> 0 ->
    let p := softmax n T v in
    let e := fun k => v k - z k in
    gradient_at n (fun x => kd n T z x) v (fun k => p k * (e k - expectation n p e)).
Proof.
  intros n T z v HT p e k Hk.
  set (y := bump v k). set (P := softmax n T (y 0)).
  assert (M : moves n y 0 (onehot k)) by apply moves_bump.
  apply (partial_of_derive _ v k (T ^ 2 * (total n (fun j =>
    P j * (onehot k j - expectation n P (onehot k)) / T * ((y 0 j - z j) / T)
    + P j * ((onehot k j - 0) / T)) + 0 - expectation n P (onehot k) / T))).
  - apply is_derive_ext with (f := fun t =>
      T ^ 2 * (expectation n (softmax n T (y t)) (fun j => (y t j - z j) / T)
               + log_total n T z - log_total n T (y t))).
    { intros t. unfold kd. rewrite kl_softmax. reflexivity. }
    apply derive_scal, derive_minus; [|apply is_derive_log_total, M].
    apply derive_plus; [|apply derive_const].
    apply (is_derive_total n (fun t j => softmax n T (y t) j * ((y t j - z j) / T))).
    intros j Hj.
    apply (derive_mult (fun t => softmax n T (y t) j) (fun t => (y t j - z j) / T)).
    + apply is_derive_softmax; assumption.
    + apply derive_over, derive_minus; [apply M, Hj|apply derive_const].
  - assert (E : forall x, expectation n P x = expectation n p x)
      by (intros; apply expectation_bump_0).
    assert (Pj : forall j, (j <= n)%nat -> P j = p j)
      by (intros; apply softmax_bump_0; assumption).
    rewrite E, expectation_onehot by exact Hk.
    rewrite (total_ext n _ (fun j => / (T * T) * (p j * e j * onehot k j)
      - p k / (T * T) * (p j * e j) + / T * (p j * onehot k j))).
    + rewrite total_plus, total_minus, !total_scal_l. unfold onehot.
      rewrite !total_onehot by exact Hk. fold (expectation n p e). field. exact HT.
    + intros j Hj. rewrite (Pj j Hj). unfold y. rewrite bump_0. unfold e. field. exact HT.
Qed.

(** T1 for distillation, in the teacher's logits. *)
Theorem kd_teacher_zero_sum :
  forall n T z v g, T <> 0 ->
    gradient_at n (fun x => kd n T z x) v g -> total n g = 0.
Proof.
  intros n T z v g HT Hg. set (p := softmax n T v). set (e := fun k => v k - z k).
  rewrite (total_ext n g (fun k => p k * e k - expectation n p e * p k)).
  - rewrite total_minus, total_scal_l. fold (expectation n p e).
    pose proof (softmax_total n T v : total n p = 1) as S. rewrite S. ring.
  - intros k Hk. replace (p k * e k - expectation n p e * p k)
      with (p k * (e k - expectation n p e)) by ring.
    eapply derivative_unique; [apply (Hg k Hk)|].
    apply kd_teacher_gradient; assumption.
Qed.
