(** T8. The Hessian of distillation.

    In the student's logits, the Hessian of the loss is [diag q - q q^T], for the
    student's predictions q. It is positive semidefinite, its kernel are the vectors with
    equal components, and on the vectors that sum to zero its quadratic form lies
    between [min q * |x|^2] and [|x|^2 / 2]. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives Limits T01 T03 T04.
Open Scope R_scope.

(** The matrix [diag q - q q^T], its product with a vector and its quadratic form. *)
Definition hessian (q : vec) (j k : nat) : R := q j * onehot k j - q j * q k.
Definition times (n : nat) (H : nat -> nat -> R) (x : vec) : vec :=
  fun j => total n (fun k => H j k * x k).
Definition quadratic (n : nat) (H : nat -> nat -> R) (x : vec) : R :=
  total n (fun j => x j * times n H x j).

(** The squared length of a vector. *)
Definition length_squared (n : nat) (x : vec) : R := total n (fun k => x k ^ 2).

(** T8: the Hessian is the derivative of the gradient, whatever function of the logits
    the gradient is. *)
Theorem kd_hessian :
  forall n T v (g : vec -> vec), T <> 0 ->
    (forall z, gradient_at n (fun x => kd n T x v) z (g z)) ->
    forall z j, (j <= n)%nat ->
      gradient_at n (fun x => g x j) z (hessian (softmax n T z) j).
Proof.
  intros n T v g HT Hg z j Hj k Hk.
  apply (partial_of_derive _ z k (T * (softmax n T (bump z k 0) j
    * (onehot k j - expectation n (softmax n T (bump z k 0)) (onehot k)) / T - 0))).
  - apply is_derive_ext with
      (f := fun t => T * (softmax n T (bump z k t) j - softmax n T v j)).
    { intros t. symmetry. apply (kd_gradient_unique n T _ v); auto. }
    apply derive_scal, derive_minus; [|apply derive_const].
    apply is_derive_softmax; [apply moves_bump|exact Hj].
  - rewrite expectation_bump_0, expectation_onehot, softmax_bump_0 by assumption.
    unfold hessian. field; exact HT.
Qed.

Lemma hessian_times n q x j :
  (j <= n)%nat -> times n (hessian q) x j = q j * (x j - expectation n q x).
Proof.
  intros Hj. unfold times, hessian.
  rewrite (total_ext n _ (fun k => q j * (x k * (if Nat.eqb k j then 1 else 0))
                                   - q j * (q k * x k))).
  - rewrite total_minus, !total_scal_l, total_onehot by exact Hj.
    unfold expectation. ring.
  - intros k _. unfold onehot. rewrite (Nat.eqb_sym j k). ring.
Qed.

(** T8: the quadratic form is the variance under the predictions. *)
Theorem hessian_quadratic :
  forall n q x, total n q = 1 ->
    quadratic n (hessian q) x = variance_under n q x.
Proof.
  intros n q x Hq. unfold quadratic.
  rewrite (total_ext n _ (fun j => q j * x j ^ 2 - expectation n q x * (q j * x j))).
  - rewrite total_minus, total_scal_l, variance_under_moments by exact Hq.
    unfold expectation. ring.
  - intros j Hj. rewrite hessian_times by exact Hj. ring.
Qed.

(** T8: the Hessian is positive semidefinite. *)
Theorem hessian_semidefinite :
  forall n T z x, 0 <= quadratic n (hessian (softmax n T z)) x.
Proof.
  intros n T z x. rewrite hessian_quadratic by apply softmax_total.
  apply variance_under_nonneg; intros; left; apply softmax_pos.
Qed.

(** T8: the Hessian maps a vector to zero if and only if its components are equal. *)
Theorem hessian_kernel :
  forall n T z x,
    (forall j, (j <= n)%nat -> times n (hessian (softmax n T z)) x j = 0)
    <-> (forall j k, (j <= n)%nat -> (k <= n)%nat -> x j = x k).
Proof.
  intros n T z x. set (q := softmax n T z).
  assert (Q : forall j, 0 < q j) by (intros; apply softmax_pos).
  split.
  - intros H. assert (E : forall j, (j <= n)%nat -> x j = expectation n q x).
    { intros j Hj. specialize (H j Hj). rewrite hessian_times in H by exact Hj.
      apply Rmult_integral in H. specialize (Q j). destruct H; lra. }
    intros j k Hj Hk. rewrite (E j Hj), (E k Hk). reflexivity.
  - intros H j Hj. rewrite hessian_times by exact Hj.
    rewrite (expectation_ext n q q x (fun _ => x j));
      [|reflexivity|intros k Hk; apply H; assumption].
    rewrite expectation_const by apply softmax_total. ring.
Qed.

(** T8: on the vectors that sum to zero, the least prediction is a lower bound. *)
Theorem hessian_lower :
  forall n T z x a, total n x = 0 ->
    0 <= a -> (forall k, (k <= n)%nat -> a <= softmax n T z k) ->
    a * length_squared n x <= quadratic n (hessian (softmax n T z)) x.
Proof.
  intros n T z x a Hx Ha Hq. rewrite hessian_quadratic by apply softmax_total.
  assert (E : length_squared n x = classes n * variance n x).
  { rewrite variance_sum. unfold length_squared, mean. rewrite Hx.
    apply total_ext; intros k _. unfold Rdiv; ring. }
  rewrite E, <- Rmult_assoc.
  apply variance_under_lower; [apply softmax_total| |].
  - apply Rmult_le_pos; [exact Ha|left; apply classes_pos].
  - intros k Hk. rewrite (Rmult_comm a). apply Rmult_le_compat_l; [|auto].
    left; apply classes_pos.
Qed.

(** The range of a vector is at most the root of twice its squared length. *)
Lemma range_of_length n x :
  exists D, within n x D /\ D ^ 2 <= 2 * length_squared n x.
Proof.
  destruct (least n x) as [i [Hi L]].
  destruct (least n (fun k => - x k)) as [j [Hj U]].
  exists (x j - x i). split.
  - intros a b Ha Hb. specialize (U a Ha). specialize (L b Hb). simpl in U. lra.
  - unfold length_squared. destruct (Nat.eq_dec i j) as [->|N].
    + rewrite Rminus_eq_0.
      pose proof (total_nonneg n (fun k => x k ^ 2) (fun k _ => pow2_ge_0 (x k))). lra.
    + rewrite (total_without n j) by exact Hj.
      set (w := fun k => if Nat.eqb k j then 0 else x k ^ 2).
      assert (W : w i = x i ^ 2) by (unfold w; rewrite (proj2 (Nat.eqb_neq i j) N); ring).
      assert (P : w i <= total n w).
      { apply term_le_total; [|exact Hi]. intros k _. unfold w.
        destruct (Nat.eqb k j); [lra|apply pow2_ge_0]. }
      rewrite W in P. fold w.
      pose proof (pow2_ge_0 (x i + x j)). nra.
Qed.

(** T8: every eigenvalue is at most one half. *)
Theorem hessian_upper :
  forall n T z x,
    quadratic n (hessian (softmax n T z)) x <= length_squared n x / 2.
Proof.
  intros n T z x. rewrite hessian_quadratic by apply softmax_total.
  destruct (range_of_length n x) as [D [HD L]].
  pose proof (variance_under_popoviciu n (softmax n T z) x D
    (fun k _ => Rlt_le _ _ (softmax_pos n T z k)) (softmax_total n T z) HD). lra.
Qed.

(** T8: the limit of the Hessian at infinite temperature. *)
Theorem hessian_limit :
  forall n z j k, (j <= n)%nat -> (k <= n)%nat ->
    is_lim (fun T => hessian (softmax n T z) j k) p_infty
      ((onehot k j - / classes n) / classes n).
Proof.
  intros n z j k Hj Hk. unfold hessian.
  replace ((onehot k j - / classes n) / classes n)
    with (/ classes n * onehot k j - / classes n * / classes n) by (unfold Rdiv; ring).
  apply (is_lim_minus' (fun T => softmax n T z j * onehot k j)).
  - apply limit_mult; [apply is_lim_softmax, Hj|apply is_lim_const].
  - apply limit_mult; apply is_lim_softmax; assumption.
Qed.
