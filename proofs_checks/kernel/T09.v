(** T09. Optimizers that conserve the class sums.

    Let the logits be a linear classifier's, and let the loss of every example be
    invariant under shifts. Then, for every feature, the gradient of the classifier's
    weights sums to zero over the classes. So the class sums of the weights

    - stay the same under SGD, momentum and Nesterov momentum, with any learning rates
      and with gradients that are rescaled (clipping by a norm);
    - are multiplied by [1 - eta lambda] in each step of SGD with weight decay.

    This holds for any examples, features and other layers, which may change in each
    step. A bias is the weight of a feature that is always 1. Sign descent (Lion), and
    the first step of Adam, change the class sums. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T01 T02 T03.
Open Scope R_scope.

(** Weights of a linear classifier: [w k f] belongs to class k and feature f. There are
    [S n] classes and [S m] features. *)
Definition weights := nat -> nat -> R.

Definition class_sum (n : nat) (w : weights) (f : nat) : R := total n (fun k => w k f).

(** The logits of an example with features [h]. *)
Definition logits_of (m : nat) (w : weights) (h : vec) : vec :=
  fun k => total m (fun f => w k f * h f).

(** The mean loss of [S N] examples; example i has features [h i] and loss [l i]. *)
Definition batch_loss (m N : nat) (l : nat -> vec -> R) (h : nat -> vec) (w : weights) :=
  mean N (fun i => l i (logits_of m w (h i))).

(** [weights_gradient n m f w g]: the partial derivatives of [f] at the weights [w]. *)
Definition bump_weight (w : weights) (k f : nat) (t : R) : weights :=
  fun k' f' => if (Nat.eqb k' k && Nat.eqb f' f)%bool then w k' f' + t else w k' f'.
Definition weights_gradient (n m : nat) (L : weights -> R) (w g : weights) : Prop :=
  forall k f, (k <= n)%nat -> (f <= m)%nat ->
    derivable_pt_lim (fun t => L (bump_weight w k f t)) 0 (g k f).

(** Invariance under shifts. *)
Definition shift_invariant (loss : vec -> R) : Prop :=
  forall z c, loss (shift z c) = loss z.

(** [training n m w g]: in every step t, [g t] is the gradient, at the weights [w t], of
    the mean loss of a batch, and the losses are invariant under shifts. *)
Definition training (n m : nat) (w g : nat -> weights) : Prop :=
  forall t, exists N l h,
    (forall i, (i <= N)%nat ->
       shift_invariant (l i)
       /\ exists d, differentiable_at n (l i) (logits_of m (w t) (h i)) d)
    /\ weights_gradient n m (batch_loss m N l h) (w t) (g t).

(** * The gradient of the weights *)

Lemma logits_bump m w h k f t j :
  (f <= m)%nat ->
  logits_of m (bump_weight w k f t) h j = logits_of m w h j + t * (h f * onehot k j).
Proof.
  intros Hf. unfold logits_of, bump_weight, onehot.
  rewrite (total_ext m _ (fun f' => w j f' * h f'
    + (if Nat.eqb f' f then t * (h f' * (if Nat.eqb j k then 1 else 0)) else 0))).
  - rewrite total_plus.
    rewrite (total_single m f (fun f' => t * (h f' * (if Nat.eqb j k then 1 else 0))) Hf).
    reflexivity.
  - intros f' _. destruct (Nat.eqb j k), (Nat.eqb f' f); simpl; ring.
Qed.

(** The derivative of one example's loss. *)
Lemma example_partial n m w h loss d k f :
  differentiable_at n loss (logits_of m w h) d -> (k <= n)%nat -> (f <= m)%nat ->
  derivable_pt_lim (fun t => loss (logits_of m (bump_weight w k f t) h)) 0 (d k * h f).
Proof.
  intros H Hk Hf. replace (d k * h f) with (total n (fun j => d j * (h f * onehot k j))).
  - apply (differentiable_along n loss (logits_of m w h)).
    + exact H.
    + intros s j _. rewrite logits_bump by exact Hf. ring.
    + apply (differentiable_ext n loss _ _ d H). intros j _.
      rewrite logits_bump by exact Hf. ring.
  - rewrite (total_ext n _ (fun j => d j * h f * onehot k j)) by (intros; ring).
    apply (total_onehot n k (fun j => d j * h f)), Hk.
Qed.

(** T09: the gradient of the weights sums to zero over the classes. *)
Theorem weights_gradient_zero_sum :
  forall n m N (l : nat -> vec -> R) (h : nat -> vec) (w g : weights) f,
    (forall i, (i <= N)%nat ->
       shift_invariant (l i)
       /\ exists d, differentiable_at n (l i) (logits_of m w (h i)) d) ->
    weights_gradient n m (batch_loss m N l h) w g ->
    (f <= m)%nat ->
    class_sum n g f = 0.
Proof.
  intros n m N l h w g f Hl Hg Hf.
  assert (D : exists d : nat -> vec, forall i, (i <= N)%nat ->
    differentiable_at n (l i) (logits_of m w (h i)) (d i)).
  { clear Hg. induction N as [|N IH].
    - destruct (Hl O (le_n 0)) as [_ [d H]]. exists (fun _ => d). intros i Hi.
      replace i with O by lia. exact H.
    - destruct IH as [d H]; [intros i Hi; apply Hl; lia|].
      destruct (Hl (S N) (le_n _)) as [_ [e He]].
      exists (fun i => if Nat.eqb i (S N) then e else d i). intros i Hi.
      destruct (Nat.eqb_spec i (S N)) as [E|E]; [rewrite E; exact He|].
      apply H; lia. }
  destruct D as [d Hd].
  assert (G : forall k, (k <= n)%nat ->
    g k f = total N (fun i => d i k * h i f / classes N)).
  { intros k Hk. eapply uniqueness_limite; [apply (Hg k f Hk Hf)|].
    rewrite total_div. unfold batch_loss, mean. apply is_derive_Reals, derive_over.
    apply is_derive_Reals.
    apply (derivable_total N (fun t i => l i (logits_of m (bump_weight w k f t) (h i)))
      (fun i => d i k * h i f)).
    intros i Hi. apply (example_partial n); auto. }
  unfold class_sum. rewrite (total_ext n _ _ G), total_swap.
  rewrite <- (total_zero N). apply total_ext; intros i Hi.
  rewrite (total_ext n _ (fun k => d i k * (h i f / classes N)))
    by (intros; unfold Rdiv; ring).
  rewrite total_scal_r, (zero_sum_gradient n (l i) (logits_of m w (h i)) (d i)).
  - ring.
  - intros c. apply (proj1 (Hl i Hi)).
  - apply Hd, Hi.
Qed.

Lemma training_zero_sum n m w g t f :
  training n m w g -> (f <= m)%nat -> class_sum n (g t) f = 0.
Proof.
  intros H Hf. destruct (H t) as [N [l [h [Hl Hg]]]].
  apply (weights_gradient_zero_sum n m N l h (w t) (g t) f Hl Hg Hf).
Qed.

(** * Optimizers *)

Lemma class_sum_linear n a b (w u : weights) f :
  class_sum n (fun k j => a * w k j + b * u k j) f
  = a * class_sum n w f + b * class_sum n u f.
Proof. unfold class_sum. rewrite total_plus, !total_scal_l. reflexivity. Qed.

Lemma class_sum_ext n (w u : weights) f :
  (forall k, (k <= n)%nat -> w k f = u k f) -> class_sum n w f = class_sum n u f.
Proof. apply total_ext. Qed.

(** T09, the general law. The next weights are a combination of the weights so far, with
    numbers [c t s] (1 for the last weights, less with weight decay), minus a
    combination of the gradients so far, with matrices [a t s] that act on the features.
    Both may depend on the course of the training, as those of clipping, LARS, Polyak's
    step size, L-BFGS and Muon do, but not on the class. Then the class sums follow the
    same recursion with gradients zero. *)
Theorem combination_law :
  forall n m w g (c : nat -> nat -> R) (a : nat -> nat -> nat -> nat -> R),
    training n m w g ->
    (forall t k f,
       w (S t) k f = total t (fun s => c t s * w s k f)
                     - total t (fun s => total m (fun j => a t s f j * g s k j))) ->
    forall t f, class_sum n (w (S t)) f = total t (fun s => c t s * class_sum n (w s) f).
Proof.
  intros n m w g c a H E t f. unfold class_sum.
  rewrite (total_ext n _ (fun k => total t (fun s => c t s * w s k f)
    - total t (fun s => total m (fun j => a t s f j * g s k j)))) by (intros; apply E).
  rewrite total_minus, !(total_swap n t).
  rewrite (total_ext t (fun s => total n (fun k => c t s * w s k f))
    (fun s => c t s * total n (fun k => w s k f))) by (intros; apply total_scal_l).
  rewrite (total_ext t (fun s => total n _) (fun _ => 0)), total_zero; [ring|].
  intros s _. rewrite total_swap, <- (total_zero m). apply total_ext; intros j Hj.
  rewrite total_scal_l. fold (class_sum n (g s) j).
  rewrite (training_zero_sum n m w g s j H Hj). ring.
Qed.

(** T09: without weight decay, they are conserved. *)
Theorem combination_conserves :
  forall n m w g (a : nat -> nat -> nat -> nat -> R),
    training n m w g ->
    (forall t k f,
       w (S t) k f
       = w t k f - total t (fun s => total m (fun j => a t s f j * g s k j))) ->
    forall t f, class_sum n (w t) f = class_sum n (w O) f.
Proof.
  intros n m w g a H E t f. induction t as [|t IH]; [reflexivity|]. rewrite <- IH.
  rewrite (combination_law n m w g (fun t s => if Nat.eqb s t then 1 else 0) a H).
  - rewrite (total_ext t _ (fun s => if Nat.eqb s t then class_sum n (w s) f else 0))
      by (intros s _; destruct (Nat.eqb s t); ring).
    apply (total_single t t (fun s => class_sum n (w s) f)), le_n.
  - intros s k j. rewrite E. f_equal.
    rewrite (total_ext s _ (fun i => if Nat.eqb i s then w i k j else 0))
      by (intros i _; destruct (Nat.eqb i s); ring).
    symmetry. apply (total_single s s (fun i => w i k j)), le_n.
Qed.

(** T09: SGD with any learning rates [eta t]. *)
Theorem sgd_conserves :
  forall n m w g (eta : nat -> R),
    training n m w g ->
    (forall t k f, w (S t) k f = w t k f - eta t * g t k f) ->
    forall t f, (f <= m)%nat -> class_sum n (w t) f = class_sum n (w O) f.
Proof.
  intros n m w g eta H E t f Hf. induction t as [|t IH]; [reflexivity|]. rewrite <- IH.
  rewrite (class_sum_ext n _ (fun k j => 1 * w t k j + - eta t * g t k j))
    by (intros; rewrite E; ring).
  rewrite class_sum_linear, (training_zero_sum n m w g t f H Hf). ring.
Qed.

(** The class sums of the momentum [u] stay zero. *)
Lemma momentum_zero_sum n m w g u (beta : R) (r : nat -> R) t f :
  training n m w g ->
  (forall k j, u O k j = 0) ->
  (forall s k j, u (S s) k j = beta * u s k j + r s * g s k j) ->
  (f <= m)%nat -> class_sum n (u t) f = 0.
Proof.
  intros H U0 U Hf. induction t as [|t IH].
  - unfold class_sum. rewrite <- (total_zero n). apply total_ext; auto.
  - rewrite (class_sum_ext n _ (fun k j => beta * u t k j + r t * g t k j))
      by (intros; apply U).
    rewrite class_sum_linear, IH, (training_zero_sum n m w g t f H Hf). ring.
Qed.

(** T09: momentum, with gradients that are multiplied by any numbers [r t], as clipping
    by a norm does. *)
Theorem momentum_conserves :
  forall n m w g u beta (eta r : nat -> R),
    training n m w g ->
    (forall k f, u O k f = 0) ->
    (forall t k f, u (S t) k f = beta * u t k f + r t * g t k f) ->
    (forall t k f, w (S t) k f = w t k f - eta t * u (S t) k f) ->
    forall t f, (f <= m)%nat -> class_sum n (w t) f = class_sum n (w O) f.
Proof.
  intros n m w g u beta eta r H U0 U E t f Hf.
  induction t as [|t IH]; [reflexivity|]. rewrite <- IH.
  rewrite (class_sum_ext n _ (fun k j => 1 * w t k j + - eta t * u (S t) k j))
    by (intros; rewrite E; ring).
  rewrite class_sum_linear, (momentum_zero_sum n m w g u beta r (S t) f H U0 U Hf). ring.
Qed.

(** T09: Nesterov momentum, likewise. *)
Theorem nesterov_conserves :
  forall n m w g u beta (eta r : nat -> R),
    training n m w g ->
    (forall k f, u O k f = 0) ->
    (forall t k f, u (S t) k f = beta * u t k f + r t * g t k f) ->
    (forall t k f,
       w (S t) k f = w t k f - eta t * (beta * u (S t) k f + r t * g t k f)) ->
    forall t f, (f <= m)%nat -> class_sum n (w t) f = class_sum n (w O) f.
Proof.
  intros n m w g u beta eta r H U0 U E t f Hf.
  induction t as [|t IH]; [reflexivity|]. rewrite <- IH.
  rewrite (class_sum_ext n _ (fun k j => 1 * w t k j
    + - eta t * (beta * u (S t) k j + r t * g t k j))) by (intros; rewrite E; ring).
  rewrite (class_sum_linear n 1 (- eta t) (w t)
    (fun k j => beta * u (S t) k j + r t * g t k j)).
  rewrite class_sum_linear, (momentum_zero_sum n m w g u beta r (S t) f H U0 U Hf).
  rewrite (training_zero_sum n m w g t f H Hf). ring.
Qed.

(** The product of the factors [1 - eta s lambda] of the steps before t. *)
Fixpoint decay (eta : nat -> R) (lambda : R) (t : nat) : R :=
  match t with
  | O => 1
  | S s => (1 - eta s * lambda) * decay eta lambda s
  end.

(** T09: weight decay multiplies the class sums by [1 - eta lambda] in each step of
    SGD. *)
Theorem sgd_decay :
  forall n m w g (eta : nat -> R) lambda,
    training n m w g ->
    (forall t k f, w (S t) k f = w t k f - eta t * (g t k f + lambda * w t k f)) ->
    forall t f, (f <= m)%nat ->
      class_sum n (w t) f = decay eta lambda t * class_sum n (w O) f.
Proof.
  intros n m w g eta lambda H E t f Hf. induction t as [|t IH]; [simpl; ring|].
  rewrite (class_sum_ext n _
    (fun k j => (1 - eta t * lambda) * w t k j + - eta t * g t k j))
    by (intros; rewrite E; ring).
  rewrite class_sum_linear, IH, (training_zero_sum n m w g t f H Hf). simpl. ring.
Qed.

(** With a constant learning rate, the factor after t steps is a power. *)
Theorem decay_power :
  forall eta lambda t, decay (fun _ => eta) lambda t = (1 - eta * lambda) ^ t.
Proof. induction t as [|t IH]; simpl; [|rewrite IH]; reflexivity. Qed.

(** * Losses that satisfy the assumptions *)

(** What the tangent leaves out of distillation is the distillation between the points. *)
Lemma kd_tangent n T z v y :
  T <> 0 ->
  kd n T y v - kd n T z v
  - total n (fun k => T * (softmax n T z k - softmax n T v k) * (y k - z k))
  = kd n T y z.
Proof.
  intros HT. unfold kd. rewrite !kl_softmax. unfold expectation.
  rewrite (total_ext n (fun k => T * (softmax n T z k - softmax n T v k) * (y k - z k))
    (fun k => T ^ 2 * (softmax n T v k * ((v k - y k) / T)
      - softmax n T v k * ((v k - z k) / T) - softmax n T z k * ((z k - y k) / T))))
    by (intros; field; exact HT).
  rewrite total_scal_l, !total_minus. ring.
Qed.

(** A function that leaves its tangent at most by a constant times the squared range is
    differentiable. *)
Lemma differentiable_of_tangent n f z g :
  (forall y D, 0 <= D -> within n (fun k => y k - z k) D ->
     0 <= f y - f z - total n (fun k => g k * (y k - z k)) <= D ^ 2) ->
  differentiable_at n f z g.
Proof.
  intros H eps Heps. exists (eps / 4). split; [lra|]. intros y Hy.
  set (A := total n (fun k => Rabs (y k - z k))).
  assert (T1 : forall k, (k <= n)%nat -> Rabs (y k - z k) <= A).
  { intros k Hk. apply (term_le_total n (fun j => Rabs (y j - z j)) k);
      [intros; apply Rabs_pos|exact Hk]. }
  set (D := Rmin (2 * A) (eps / 2)).
  assert (A0 : 0 <= A) by (apply total_nonneg; intros; apply Rabs_pos).
  assert (D0 : 0 <= D) by (unfold D, Rmin; destruct Rle_dec; lra).
  assert (W : within n (fun k => y k - z k) D).
  { intros j k Hj Hk.
    pose proof (T1 j Hj). pose proof (T1 k Hk). pose proof (Hy j Hj). pose proof (Hy k Hk).
    pose proof (Rle_abs (y j - z j)). pose proof (Rle_abs (- (y k - z k))) as N.
    rewrite Rabs_Ropp in N. unfold D, Rmin; destruct Rle_dec; lra. }
  destruct (H y D D0 W) as [L U]. rewrite Rabs_pos_eq by exact L.
  eapply Rle_trans; [exact U|].
  assert (D <= 2 * A) by apply Rmin_l. assert (D <= eps / 2) by apply Rmin_r.
  replace (D ^ 2) with (D * D) by ring.
  apply Rle_trans with (eps / 2 * (2 * A)); [apply Rmult_le_compat; lra|lra].
Qed.

Lemma kd_nonneg_below n T y z D :
  0 < T -> within n (fun k => y k - z k) D -> 0 <= kd n T y z <= D ^ 2.
Proof.
  intros HT HD. split.
  - destruct (kd_mean_value n T y z) as [s [_ E]]; [lra|]. rewrite E.
    pose proof (variance_under_nonneg n (softmax n T (fun k => z k + s * (y k - z k)))
      (fun k => y k - z k) (fun k _ => Rlt_le _ _ (softmax_pos n T _ k))). lra.
  - pose proof (kd_bound_range n T y z D HT HD). pose proof (pow2_ge_0 D). lra.
Qed.

(** Distillation is differentiable and invariant under shifts. *)
Theorem kd_suits :
  forall n T v, 0 < T ->
    shift_invariant (fun z => kd n T z v)
    /\ forall z, differentiable_at n (fun z => kd n T z v) z
         (fun k => T * (softmax n T z k - softmax n T v k)).
Proof.
  intros n T v HT. split.
  - intros z c. unfold kd. f_equal. unfold kl. apply total_ext; intros k _.
    rewrite softmax_shift. reflexivity.
  - intros z. apply differentiable_of_tangent. intros y D D0 HD.
    rewrite kd_tangent by lra. apply kd_nonneg_below; assumption.
Qed.

Lemma cross_entropy_tangent n z k y :
  (k <= n)%nat ->
  cross_entropy n y k - cross_entropy n z k
  - total n (fun j => (softmax n 1 z j - onehot k j) * (y j - z j))
  = kd n 1 y z.
Proof.
  intros Hk. unfold cross_entropy, kd. rewrite !ln_softmax, kl_softmax.
  unfold expectation.
  rewrite (total_ext n (fun j => (softmax n 1 z j - onehot k j) * (y j - z j))
    (fun j => (z j - y j) * onehot k j - softmax n 1 z j * ((z j - y j) / 1)))
    by (intros; field).
  rewrite total_minus. unfold onehot. rewrite (total_onehot n k (fun j => z j - y j) Hk).
  field.
Qed.

(** So is cross-entropy. *)
Theorem cross_entropy_suits :
  forall n y, (y <= n)%nat ->
    shift_invariant (fun z => cross_entropy n z y)
    /\ forall z, differentiable_at n (fun z => cross_entropy n z y) z
         (fun k => softmax n 1 z k - onehot y k).
Proof.
  intros n y Hy. split.
  - intros z c. unfold cross_entropy. rewrite softmax_shift. reflexivity.
  - intros z. apply differentiable_of_tangent. intros x D D0 HD.
    rewrite cross_entropy_tangent by exact Hy. apply kd_nonneg_below; [lra|exact HD].
Qed.
