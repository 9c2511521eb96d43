(** Derivatives of [log_total], [softmax] and the losses along a curve of logits.

    A curve [y] has logits [y s] at [s]; its velocity at [s] is the vector [d]. Partial
    derivatives belong to the curve [bump z k], T2 to a straight line. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums.
Open Scope R_scope.

(** [moves n y s d]: the curve [y] has velocity [d] at [s]. *)
Definition moves (n : nat) (y : R -> vec) (s : R) (d : vec) : Prop :=
  forall k, (k <= n)%nat -> is_derive (fun t => y t k) s (d k).

(** The velocity of [bump z k]. *)
Definition onehot (k : nat) : vec := fun j => if Nat.eqb j k then 1 else 0.

Lemma moves_bump n z k t : moves n (bump z k) t (onehot k).
Proof. intros j _. apply is_derive_bump. Qed.

Lemma expectation_onehot n p k : (k <= n)%nat -> expectation n p (onehot k) = p k.
Proof. intros Hk. apply total_onehot; exact Hk. Qed.

Lemma onehot_total n k : (k <= n)%nat -> total n (onehot k) = 1.
Proof. intros Hk. unfold onehot. apply (total_single n k (fun _ => 1)); exact Hk. Qed.

(** A derivative by another name. *)
Lemma is_derive_eq (f : R -> R) (t a b : R) : is_derive f t a -> a = b -> is_derive f t b.
Proof. intros H E; rewrite <- E; exact H. Qed.

(** There is one derivative. *)
Lemma derivative_unique (f : R -> R) (t a b : R) :
  derivable_pt_lim f t a -> derivable_pt_lim f t b -> a = b.
Proof.
  intros Ha Hb. apply is_derive_Reals in Ha, Hb.
  rewrite <- (is_derive_unique f t a Ha). apply is_derive_unique, Hb.
Qed.

(** The rules, with the operations of real numbers. *)
Lemma derive_const (c t : R) : is_derive (fun _ => c) t 0.
Proof. apply (is_derive_const (V := R_NormedModule) c t). Qed.

Lemma derive_plus (f g : R -> R) (t a b : R) :
  is_derive f t a -> is_derive g t b -> is_derive (fun s => f s + g s) t (a + b).
Proof. apply (is_derive_plus f g). Qed.

Lemma derive_minus (f g : R -> R) (t a b : R) :
  is_derive f t a -> is_derive g t b -> is_derive (fun s => f s - g s) t (a - b).
Proof. apply (is_derive_minus f g). Qed.

Lemma derive_scal (f : R -> R) (c t a : R) :
  is_derive f t a -> is_derive (fun s => c * f s) t (c * a).
Proof. apply (is_derive_scal f t c). Qed.

Lemma derive_id (t : R) : is_derive (fun s => s) t 1.
Proof. apply (is_derive_id (K := R_AbsRing) t). Qed.

Lemma derive_mult (f g : R -> R) (t a b : R) :
  is_derive f t a -> is_derive g t b ->
  is_derive (fun s => f s * g s) t (a * g t + f t * b).
Proof. intros Hf Hg. apply (is_derive_mult f g t a b Hf Hg Rmult_comm). Qed.

Lemma derive_over (f : R -> R) (c t a : R) :
  is_derive f t a -> is_derive (fun s => f s / c) t (a / c).
Proof. apply (is_derive_scal_l f t a (/ c)). Qed.

Lemma derive_comp (f g : R -> R) (t a b : R) :
  is_derive f (g t) a -> is_derive g t b -> is_derive (fun s => f (g s)) t (a * b).
Proof.
  intros Hf Hg. eapply is_derive_eq; [apply (is_derive_comp f g t a b Hf Hg)|].
  apply Rmult_comm.
Qed.

Lemma is_derive_exp_over T (f : R -> R) s a :
  is_derive f s a -> is_derive (fun t => exp (f t / T)) s (exp (f s / T) * (a / T)).
Proof.
  intros H. apply (derive_comp exp (fun t => f t / T)).
  - apply is_derive_exp.
  - apply derive_over, H.
Qed.

Lemma is_derive_log_total n T y s d :
  moves n y s d ->
  is_derive (fun t => log_total n T (y t)) s (expectation n (softmax n T (y s)) d / T).
Proof.
  intros H. unfold log_total. eapply is_derive_eq.
  - apply (derive_comp ln (fun t => total n (fun j => exp (y t j / T)))).
    + apply is_derive_Reals, derivable_pt_lim_ln, (total_exp_pos n (fun j => y s j / T)).
    + apply (is_derive_total n (fun t j => exp (y t j / T))
               (fun j => exp (y s j / T) * (d j / T))).
      intros k Hk. apply is_derive_exp_over, H, Hk.
  - unfold expectation, softmax. rewrite <- (total_div n T), <- total_scal_l.
    apply total_ext; intros k _. unfold Rdiv; ring.
Qed.

(** A prediction changes with its own logit, relative to the mean of the changes. *)
Lemma is_derive_softmax n T y s d k :
  moves n y s d -> (k <= n)%nat ->
  is_derive (fun t => softmax n T (y t) k) s
    (softmax n T (y s) k * (d k - expectation n (softmax n T (y s)) d) / T).
Proof.
  intros H Hk.
  apply is_derive_ext with (f := fun t => exp (y t k / T - log_total n T (y t))).
  { intros t. rewrite <- ln_softmax. apply exp_ln, softmax_pos. }
  eapply is_derive_eq.
  - apply (derive_comp exp (fun t => y t k / T - log_total n T (y t))).
    + apply is_derive_exp.
    + apply derive_minus; [apply derive_over, H, Hk|apply is_derive_log_total, H].
  - rewrite <- ln_softmax, exp_ln by apply softmax_pos. unfold Rdiv; ring.
Qed.

(** The expectation of a fixed vector changes by a covariance. *)
Lemma is_derive_expectation n T y s d x :
  moves n y s d ->
  let p := softmax n T (y s) in
  is_derive (fun t => expectation n (softmax n T (y t)) x) s
    ((expectation n p (fun k => d k * x k) - expectation n p d * expectation n p x) / T).
Proof.
  intros H p. unfold expectation at 1. eapply is_derive_eq.
  - apply (is_derive_total n (fun t k => softmax n T (y t) k * x k)
             (fun k => p k * (d k - expectation n p d) / T * x k)).
    intros k Hk.
    apply (is_derive_scal_l (fun t => softmax n T (y t) k) s _ (x k)).
    apply is_derive_softmax; assumption.
  - set (e := expectation n p d). unfold expectation.
    rewrite (total_ext n _ (fun k => / T * (p k * (d k * x k) - e * (p k * x k))))
      by (intros; unfold Rdiv; ring).
    rewrite total_scal_l, total_minus, total_scal_l. unfold Rdiv; ring.
Qed.

(** In the direction of the vector itself, the covariance is the variance. *)
Lemma is_derive_expectation_self n T y s d :
  moves n y s d ->
  is_derive (fun t => expectation n (softmax n T (y t)) d) s
    (variance_under n (softmax n T (y s)) d / T).
Proof.
  intros H. eapply is_derive_eq; [apply is_derive_expectation, H|].
  rewrite variance_under_moments by apply softmax_total.
  unfold Rdiv; apply Rmult_eq_compat_r.
  rewrite (expectation_ext n _ _ (fun k => d k * d k) (fun k => d k ^ 2)
             (fun _ _ => eq_refl)) by (intros; ring).
  ring.
Qed.

(** The loss changes with the logits of the student by T times the distance between
    the predictions. *)
Lemma is_derive_kd n T y s d v :
  T <> 0 -> moves n y s d ->
  is_derive (fun t => kd n T (y t) v) s
    (T * (expectation n (softmax n T (y s)) d - expectation n (softmax n T v) d)).
Proof.
  intros HT H. set (p := softmax n T v).
  apply is_derive_ext with (f := fun t =>
    T ^ 2 * (expectation n p (fun k => (v k - y t k) / T)
             + log_total n T (y t) - log_total n T v)).
  { intros t. unfold kd. rewrite kl_softmax. reflexivity. }
  eapply is_derive_eq.
  - apply derive_scal, derive_minus; [|apply derive_const].
    apply derive_plus; [|apply is_derive_log_total, H].
    apply (is_derive_total n (fun t k => p k * ((v k - y t k) / T))
             (fun k => p k * ((0 - d k) / T))).
    intros k Hk. apply derive_scal, derive_over, derive_minus; [apply derive_const|].
    apply H, Hk.
  - rewrite (total_ext n _ (fun k => - / T * (p k * d k)))
      by (intros; unfold Rdiv; ring).
    rewrite total_scal_l. fold (expectation n p d). field; exact HT.
Qed.
