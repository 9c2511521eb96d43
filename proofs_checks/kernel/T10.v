(** T10. Equal-mean initialization.

    Let the student's classifier be linear with class sums zero, and let the teacher's
    mean logit be zero for every example. Train the student twice from the same state:
    with distillation at infinite temperature (half the variance of [z - v]) and with
    logits matching. If the optimizer of the classifier conserves class sums that are
    zero, the two trainings are equal after every step.

    The features may depend on other parameters in any way, the optimizer of these may
    be any, and each step may use other examples. At the end, momentum with weight decay
    is shown to be such an optimizer of the classifier. A bias is the weight of a feature
    that is always 1. *)

From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T01 T03 T04 T09.
Open Scope R_scope.

(** * The two losses of one example *)

Definition half_variance_loss (n : nat) (v z : vec) : R :=
  variance n (fun k => z k - v k) / 2.
Definition matching_loss (n : nat) (v z : vec) : R := matching n z v.

(** What the tangent leaves out of half the variance. *)
Lemma half_variance_tangent n v z y :
  let d := fun k => z k - v k in
  half_variance_loss n v y - half_variance_loss n v z
  - total n (fun k => (d k - mean n d) / classes n * (y k - z k))
  = variance n (fun k => y k - z k) / 2.
Proof.
  intros d. set (e := fun k => y k - z k). unfold half_variance_loss.
  assert (M : mean n (fun k => y k - v k) = mean n d + mean n e).
  { unfold mean. rewrite (total_ext n _ (fun k => d k + e k))
      by (intros; unfold d, e; ring).
    rewrite total_plus. pose proof (classes_neq n). field; assumption. }
  rewrite !variance_moments, M. fold d. set (a := mean n d). set (b := mean n e).
  unfold mean.
  rewrite (total_ext n (fun k => (y k - v k) ^ 2)
    (fun k => d k ^ 2 + (2 * (d k * e k) + e k ^ 2))) by (intros; unfold d, e; ring).
  rewrite (total_ext n (fun k => (d k - a) / classes n * (y k - z k))
    (fun k => / classes n * (d k * e k) - a * (e k / classes n)))
    by (intros; unfold e; field; apply classes_neq).
  rewrite !total_plus, total_minus, !total_scal_l, total_div.
  fold (mean n e). fold b.
  change (fun k => (z k - v k) ^ 2) with (fun k => d k ^ 2).
  change (fun k => (y k - z k) ^ 2) with (fun k => e k ^ 2).
  pose proof (classes_neq n). field; assumption.
Qed.

(** T10: half the variance is differentiable, with gradient [(d_k - mean d) / C]. *)
Lemma half_variance_differentiable :
  forall n v z,
    let d := fun k => z k - v k in
    differentiable_at n (half_variance_loss n v) z
      (fun k => (d k - mean n d) / classes n).
Proof.
  intros n v z d. apply differentiable_of_tangent. intros y D D0 HD.
  unfold d. rewrite half_variance_tangent.
  pose proof (variance_nonneg n (fun k => y k - z k)) as V.
  pose proof (classes_pos n) as C.
  rewrite variance_uniform in V |- *.
  assert (B := variance_under_popoviciu n (fun _ => / classes n) (fun k => y k - z k) D
    (fun _ _ => Rlt_le _ _ (Rinv_0_lt_compat _ C))).
  rewrite total_const, Rinv_r in B by lra. specialize (B eq_refl HD).
  pose proof (pow2_ge_0 D). lra.
Qed.

Theorem half_variance_gradient :
  forall n v z,
    let d := fun k => z k - v k in
    gradient_at n (half_variance_loss n v) z (fun k => (d k - mean n d) / classes n).
Proof. intros. apply differentiable_gradient, half_variance_differentiable. Qed.

(** T10: the gradients of the two losses differ by [mean d / C], so they agree if and
    only if the means agree. *)
Theorem gradient_difference :
  forall n v z g h,
    gradient_at n (matching_loss n v) z g ->
    gradient_at n (half_variance_loss n v) z h ->
    forall k, (k <= n)%nat -> g k - h k = mean n (fun j => z j - v j) / classes n.
Proof.
  intros n v z g h Hg Hh k Hk.
  rewrite (uniqueness_limite _ _ _ _ (Hg k Hk) (matching_gradient n z v k Hk)).
  rewrite (uniqueness_limite _ _ _ _ (Hh k Hk) (half_variance_gradient n v z k Hk)).
  pose proof (classes_neq n). field; assumption.
Qed.

Lemma half_variance_shift_invariant n v : shift_invariant (half_variance_loss n v).
Proof.
  intros z c. unfold half_variance_loss, shift. f_equal.
  assert (M : mean n (fun k => z k + c - v k) = mean n (fun k => z k - v k) + c).
  { unfold mean. rewrite (total_ext n _ (fun k => (z k - v k) + c)) by (intros; ring).
    rewrite total_plus, total_const. pose proof (classes_neq n). field; assumption. }
  unfold variance. rewrite M. apply mean_ext; intros; ring.
Qed.

(** * The mean logits *)

(** If the class sums are zero, so is the mean logit of every example. *)
Lemma mean_logits n m w h :
  mean n (logits_of m w h) = total m (fun f => class_sum n w f * h f) / classes n.
Proof.
  unfold mean, logits_of, class_sum. rewrite total_swap. f_equal.
  apply total_ext; intros f _. apply total_scal_r.
Qed.

Definition zero_sums (n m : nat) (w : weights) : Prop :=
  forall f, (f <= m)%nat -> class_sum n w f = 0.

Lemma mean_logits_zero n m w h : zero_sums n m w -> mean n (logits_of m w h) = 0.
Proof.
  intros H. rewrite mean_logits, (total_ext m _ (fun _ => 0)).
  - rewrite total_zero. unfold Rdiv; ring.
  - intros f Hf. rewrite H by exact Hf. ring.
Qed.

(** * One batch *)

(** Equal means make the losses of the batch equal. *)
Lemma batch_losses_equal n m N (v h : nat -> vec) w :
  (forall i, (i <= N)%nat -> mean n (v i) = 0) -> zero_sums n m w ->
  batch_loss m N (fun i => matching_loss n (v i)) h w
  = batch_loss m N (fun i => half_variance_loss n (v i)) h w.
Proof.
  intros Hv Hw. unfold batch_loss. apply mean_ext; intros i Hi.
  unfold matching_loss, half_variance_loss. rewrite half_variance. unfold gap.
  rewrite mean_minus, Hv, mean_logits_zero by assumption. field.
Qed.

(** A weight moves the mean logit at a constant rate. *)
Lemma mean_logits_bump n m w h k f t :
  zero_sums n m w ->
  mean n (logits_of m (bump_weight w k f t) h)
  = t * ((if Nat.leb f m then h f else 0) * mean n (onehot k)).
Proof.
  intros Hw. destruct (Nat.leb_spec f m) as [Hf|Hf].
  - rewrite (mean_ext n _ (fun j => logits_of m w h j - - (t * h f) * onehot k j))
      by (intros; rewrite logits_bump by exact Hf; ring).
    rewrite mean_minus, mean_logits_zero by exact Hw.
    unfold mean. rewrite total_scal_l. unfold Rdiv; ring.
  - rewrite (mean_ext n _ (logits_of m w h)).
    + rewrite mean_logits_zero by exact Hw. ring.
    + intros j _. apply total_ext; intros f' Hf'. unfold bump_weight.
      replace (Nat.eqb f' f) with false by (symmetry; apply Nat.eqb_neq; lia).
      rewrite Bool.andb_false_r. reflexivity.
Qed.

(** The losses of the batch separate at second order in a weight. *)
Lemma batch_losses_bump n m N (v h : nat -> vec) w k f t :
  (forall i, (i <= N)%nat -> mean n (v i) = 0) -> zero_sums n m w ->
  batch_loss m N (fun i => matching_loss n (v i)) h (bump_weight w k f t)
  = batch_loss m N (fun i => half_variance_loss n (v i)) h (bump_weight w k f t)
    + mean N (fun i => ((if Nat.leb f m then h i f else 0) * mean n (onehot k)) ^ 2 / 2)
      * t ^ 2.
Proof.
  intros Hv Hw. unfold batch_loss, mean at 1 2 3.
  rewrite (total_ext N (fun i => matching_loss n (v i) _) (fun i =>
    half_variance_loss n (v i) (logits_of m (bump_weight w k f t) (h i))
    + ((if Nat.leb f m then h i f else 0) * mean n (onehot k)) ^ 2 / 2 * t ^ 2)).
  - rewrite total_plus, total_scal_r. unfold Rdiv; ring.
  - intros i Hi. unfold matching_loss, half_variance_loss. rewrite half_variance.
    unfold gap. rewrite mean_minus, Hv, mean_logits_bump by assumption. field.
Qed.

Lemma second_order_partial (f g : R -> R) a l :
  (forall t, f t = g t + a * t ^ 2) ->
  derivable_pt_lim f 0 l -> derivable_pt_lim g 0 l.
Proof.
  intros E H. apply is_derive_Reals.
  apply is_derive_ext with (f := fun t => f t - a * t ^ 2).
  { intros t. rewrite E. change (g t + a * t ^ 2 - a * t ^ 2 = g t :> R). ring. }
  eapply is_derive_eq.
  - apply derive_minus; [apply is_derive_Reals, H|].
    apply derive_scal. apply (is_derive_pow (fun t => t) 2 0 1 (is_derive_id 0)).
  - simpl. ring.
Qed.

(** * Training *)

Section Training.

(** The sizes, and for every step t and other parameters [theta] the features
    [h t theta i] of the examples i of the batch, and the teacher's logits [v t i]. *)
Variables n m : nat.
Variable N : nat -> nat.
Variable h : nat -> vec -> nat -> vec.
Variable v : nat -> nat -> vec.

(** The state of the optimizer, of any type, and its step: from the state, the other
    parameters, the weights of the classifier and their gradients to the next ones. *)
Variable state : Type.
Definition point : Type := state * vec * weights.
Variable update : nat -> point -> vec -> weights -> point.

(** The loss of the batch of step t, as a function of the parameters. *)
Definition loss_at (l : nat -> vec -> vec -> R) (t : nat) (theta : vec) (w : weights) : R :=
  batch_loss m (N t) (fun i => l n (v t i)) (h t theta) w.

(** [run l x a g]: the training with loss [l] visits the points [x t], with gradients
    [a t] of the other parameters and [g t] of the weights. *)
Definition run (l : nat -> vec -> vec -> R) (x : nat -> point) (a : nat -> vec)
    (g : nat -> weights) : Prop :=
  forall t, let '(_, theta, w) := x t in
    (forall k, partial_at (fun y => loss_at l t y w) theta k (a t k))
    /\ (forall k f,
          derivable_pt_lim (fun s => loss_at l t theta (bump_weight w k f s)) 0 (g t k f))
    /\ x (S t) = update t (x t) (a t) (g t).

(** From the point [start], the optimizer conserves class sums of the classifier that
    are zero, whatever the other gradients are. *)
Definition conserves (start : point) : Prop :=
  forall (x : nat -> point) (a : nat -> vec) (g : nat -> weights),
    x O = start ->
    (forall t, x (S t) = update t (x t) (a t) (g t)) ->
    (forall t, zero_sums n m (g t)) ->
    zero_sums n m (snd start) ->
    forall t, zero_sums n m (snd (x t)).

(** The gradients of distillation at infinite temperature have class sums zero. *)
Lemma run_zero_sums x a g t : run half_variance_loss x a g -> zero_sums n m (g t).
Proof.
  intros H f Hf. specialize (H t). destruct (x t) as [[s theta] w].
  destruct H as [_ [H _]].
  apply (weights_gradient_zero_sum n m (N t) (fun i => half_variance_loss n (v t i))
    (h t theta) w (g t) f); [|intros k f' _ _; apply H|exact Hf].
  intros i _. split; [apply half_variance_shift_invariant|].
  eexists. apply half_variance_differentiable.
Qed.

(** T10: the two trainings are equal after every step. *)
Theorem same_trajectory :
  forall start x a g y b u,
    (forall t i, (i <= N t)%nat -> mean n (v t i) = 0) ->
    zero_sums n m (snd start) ->
    conserves start ->
    x O = start -> run half_variance_loss x a g ->
    y O = start -> run matching_loss y b u ->
    forall t, y t = x t.
Proof.
  intros start x a g y b u Hv H0 Hc X0 X Y0 Y t.
  assert (Z : forall s, zero_sums n m (snd (x s))).
  { apply (Hc x a g X0); [|intros s; apply (run_zero_sums x a g s X)|exact H0].
    intros s. specialize (X s). destruct (x s) as [[? ?] ?]. apply X. }
  induction t as [|t IH]; [congruence|].
  specialize (X t). specialize (Y t). specialize (Z t).
  rewrite IH in Y. destruct (x t) as [[s theta] w]. simpl in Z.
  destruct X as [Xa [Xg X]]. destruct Y as [Yb [Yu Y]].
  assert (A : b t = a t).
  { apply functional_extensionality; intros k.
    apply (uniqueness_limite _ 0 _ _ (Yb k)).
    apply is_derive_Reals. apply is_derive_ext with
      (f := fun q => loss_at half_variance_loss t (bump theta k q) w).
    { intros q. symmetry. apply batch_losses_equal; [apply Hv|exact Z]. }
    apply is_derive_Reals. apply Xa. }
  assert (G : u t = g t).
  { apply functional_extensionality; intros k. apply functional_extensionality; intros f.
    refine (uniqueness_limite _ 0 _ _ _ (Xg k f)).
    refine (second_order_partial _ _ _ _ _ (Yu k f)). intros q.
    apply batch_losses_bump; [apply Hv|exact Z]. }
  rewrite X, Y, A, G. reflexivity.
Qed.

End Training.

(** * An optimizer that conserves class sums *)

(** Momentum with weight decay for the classifier, beside any optimizer [other] of the
    other parameters, whose state may also depend on the classifier's gradients. *)
Definition momentum_update (state : Type)
    (other : nat -> state -> vec -> weights -> vec -> weights -> state * vec)
    (eta : nat -> R) (beta lambda : R)
    (t : nat) (x : point (state * weights)) (a : vec) (g : weights)
    : point (state * weights) :=
  let '(s, u, theta, w) := x in
  let u' := fun k f => beta * u k f + g k f in
  let '(s', theta') := other t s theta w a g in
  (s', u', theta', fun k f => w k f - eta t * (u' k f + lambda * w k f)).

(** T10: from momentum zero, it is an optimizer as [same_trajectory] assumes. *)
Theorem momentum_keeps_zero_sums :
  forall n m state other eta beta lambda s theta w,
    conserves n m (state * weights) (momentum_update state other eta beta lambda)
      (s, (fun _ _ => 0), theta, w).
Proof.
  intros n m state other eta beta lambda s theta w x a g X0 X Hg Hw.
  assert (K : forall t, zero_sums n m (snd (fst (fst (x t))))
                        /\ zero_sums n m (snd (x t))).
  { induction t as [|t [U W]].
    - rewrite X0. split; [|exact Hw]. intros f _. apply total_zero.
    - rewrite X. destruct (x t) as [[[s' u] theta'] w']. simpl in U, W |- *.
      destruct (other t s' theta' w' (a t) (g t)) as [s'' theta'']. simpl.
      assert (U' : zero_sums n m (fun k f => beta * u k f + g t k f)).
      { intros f Hf.
        rewrite (class_sum_ext n _ (fun k j => beta * u k j + 1 * g t k j))
          by (intros; ring).
        rewrite class_sum_linear, U, Hg by exact Hf. ring. }
      split; [exact U'|]. intros f Hf.
      rewrite (class_sum_ext n _ (fun k j => (1 - eta t * lambda) * w' k j
        + - eta t * (beta * u k j + g t k j))) by (intros; ring).
      rewrite (class_sum_linear n (1 - eta t * lambda) (- eta t) w'
        (fun k j => beta * u k j + g t k j)).
      rewrite U', W by exact Hf. ring. }
  intros t. apply K.
Qed.
