(** T2. Distillation is a variance between teacher and student.

    [L_T = integral over s in [0, 1] of (1 - s) Var_s(d) = Var_s(d) / 2] for some s
    between 0 and 1, where [Var_s] is the variance under [softmax ((v + s d) / T)] and
    [d = z - v]. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives.
Open Scope R_scope.

(** The logits on the line from the teacher to the student. *)
Definition between (v d : vec) (s : R) : vec := fun k => v k + s * d k.

Lemma moves_between n v d s : moves n (between v d) s d.
Proof.
  intros k _. unfold between. eapply is_derive_eq.
  - apply derive_plus; [apply derive_const|].
    apply derive_mult; [apply derive_id|apply derive_const].
  - cbv beta; ring.
Qed.

Lemma between_0 v d k : between v d 0 k = v k.
Proof. unfold between; ring. Qed.

Lemma between_1 z v k : between v (fun j => z j - v j) 1 k = z k.
Proof. unfold between; ring. Qed.

(** The function whose second-order remainder is the loss, and its derivatives. *)
Section Curve.
Variables (n : nat) (T : R) (v d : vec).
Hypothesis HT : T <> 0.

Definition potential (s : R) : R := T ^ 2 * log_total n T (between v d s).
Definition slope (s : R) : R := T * expectation n (softmax n T (between v d s)) d.
Definition bend (s : R) : R := variance_under n (softmax n T (between v d s)) d.

Lemma is_derive_potential s : is_derive potential s (slope s).
Proof.
  eapply is_derive_eq.
  - apply derive_scal, is_derive_log_total, moves_between.
  - unfold slope. field; exact HT.
Qed.

Lemma is_derive_slope s : is_derive slope s (bend s).
Proof.
  eapply is_derive_eq.
  - apply derive_scal, is_derive_expectation_self, moves_between.
  - unfold bend. field; exact HT.
Qed.

Lemma continuous_bend s : continuous bend s.
Proof.
  apply (continuous_ext (fun t => total n (fun k => softmax n T (between v d t) k
    * ((d k - expectation n (softmax n T (between v d t)) d)
       * (d k - expectation n (softmax n T (between v d t)) d))))).
  { intros t. apply total_ext; intros; ring. }
  apply continuous_total; intros k Hk.
  assert (E : continuous
    (fun t => d k - expectation n (softmax n T (between v d t)) d) s).
  { apply (continuous_minus (fun _ => d k)
             (fun t => expectation n (softmax n T (between v d t)) d));
      [apply continuous_const|].
    apply (ex_derive_continuous (fun t => expectation n (softmax n T (between v d t)) d)).
    eexists. apply is_derive_expectation_self, moves_between. }
  apply (continuous_mult (fun t => softmax n T (between v d t) k)).
  - apply (ex_derive_continuous (fun t => softmax n T (between v d t) k)).
    eexists. apply is_derive_softmax; [apply moves_between|exact Hk].
  - apply (continuous_mult _ _ s E E).
Qed.
End Curve.

Lemma log_total_ext n T y z :
  (forall k, (k <= n)%nat -> y k = z k) -> log_total n T y = log_total n T z.
Proof.
  intros H. unfold log_total. f_equal. apply total_ext; intros k Hk.
  rewrite H by exact Hk; reflexivity.
Qed.

(** The loss is the remainder of the tangent at the teacher. *)
Lemma kd_remainder n T z v :
  T <> 0 ->
  let d := fun k => z k - v k in
  kd n T z v = potential n T v d 1 - potential n T v d 0 - slope n T v d 0.
Proof.
  intros HT d. unfold kd, potential, slope. rewrite kl_softmax.
  rewrite (log_total_ext n T (between v d 1) z) by (intros; apply between_1).
  rewrite (log_total_ext n T (between v d 0) v) by (intros; apply between_0).
  rewrite (expectation_ext n (softmax n T (between v d 0)) (softmax n T v) d d).
  - unfold expectation.
    rewrite (total_ext n (fun k => softmax n T v k * ((v k - z k) / T))
               (fun k => - / T * (softmax n T v k * d k)))
      by (intros; unfold d, Rdiv; ring).
    rewrite total_scal_l. field; exact HT.
  - intros; apply softmax_ext; [intros; apply between_0|assumption].
  - reflexivity.
Qed.

(** Taylor's formula of second order with Lagrange's remainder. *)
Lemma taylor_2 (f f1 f2 : R -> R) :
  (forall t, is_derive f t (f1 t)) -> (forall t, is_derive f1 t (f2 t)) ->
  exists s, 0 < s < 1 /\ f 1 - f 0 - f1 0 = f2 s / 2.
Proof.
  intros H1 H2. set (K := f 1 - f 0 - f1 0).
  set (g := fun t => f t + f1 t * (1 - t) + K * ((1 - t) * (1 - t))).
  assert (D : forall t, is_derive g t ((f2 t - 2 * K) * (1 - t))).
  { intros t. unfold g. eapply is_derive_eq.
    - assert (L : is_derive (fun s => 1 - s) t (0 - 1))
        by (apply derive_minus; [apply derive_const|apply derive_id]).
      apply derive_plus; [apply derive_plus; [apply H1|]|apply derive_scal].
      + apply derive_mult; [apply H2|exact L].
      + apply derive_mult; exact L.
    - cbv beta; ring. }
  destruct (MVT_cor2 g (fun t => (f2 t - 2 * K) * (1 - t)) 0 1 Rlt_0_1) as [s [E Hs]].
  { intros t _. apply is_derive_Reals, D. }
  exists s; split; [exact Hs|].
  assert (E0 : (f2 s - 2 * K) * (1 - s) = 0) by (unfold g, K in *; lra).
  apply Rmult_integral in E0. destruct E0; lra.
Qed.

(** T2: the loss is half of a variance at a point between teacher and student. *)
Theorem kd_mean_value :
  forall n T z v, T <> 0 ->
    exists s, 0 < s < 1 /\
      kd n T z v
      = variance_under n (softmax n T (fun k => v k + s * (z k - v k)))
          (fun k => z k - v k) / 2.
Proof.
  intros n T z v HT. set (d := fun k => z k - v k).
  destruct (taylor_2 (potential n T v d) (slope n T v d) (bend n T v d))
    as [s [Hs E]].
  - intros; apply is_derive_potential, HT.
  - intros; apply is_derive_slope, HT.
  - exists s; split; [exact Hs|]. rewrite kd_remainder by exact HT. exact E.
Qed.

(** T2: the loss is the integral of the variance with the weight [1 - s]. *)
Theorem kd_integral :
  forall n T z v, T <> 0 ->
    is_RInt (fun s => (1 - s) * variance_under n
               (softmax n T (fun k => v k + s * (z k - v k))) (fun k => z k - v k))
      0 1 (kd n T z v).
Proof.
  intros n T z v HT. set (d := fun k => z k - v k).
  set (g := fun t => potential n T v d t + (1 - t) * slope n T v d t).
  replace (kd n T z v) with (minus (g 1) (g 0)).
  - apply (is_RInt_derive g (fun s => (1 - s) * bend n T v d s)).
    + intros t _. unfold g. eapply is_derive_eq.
      * apply derive_plus; [apply is_derive_potential, HT|].
        apply derive_mult; [|apply is_derive_slope, HT].
        apply derive_minus; [apply derive_const|apply derive_id].
      * cbv beta; ring.
    + intros t _. apply (continuous_mult (fun s => 1 - s) (bend n T v d)).
      * apply (continuous_minus (fun _ => 1) (fun s => s));
          [apply continuous_const|apply continuous_id].
      * apply continuous_bend.
  - rewrite kd_remainder by exact HT. unfold g, minus, plus, opp; simpl.
    fold d. ring.
Qed.

(** The loss is not negative. *)
Corollary kd_nonneg : forall n T z v, T <> 0 -> 0 <= kd n T z v.
Proof.
  intros n T z v HT. destruct (kd_mean_value n T z v HT) as [s [_ E]]. rewrite E.
  apply Rdiv_le_0_compat; [|lra].
  apply variance_under_nonneg; intros; left; apply softmax_pos.
Qed.
