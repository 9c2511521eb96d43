(** T15. What top-k distillation leaves out.

    The loss keeps some classes and counts the others as one class, with the sum of their
    probabilities. Let m be the teacher's probability of the dropped classes. Then

    - distillation is that loss plus [T^2 m] times the divergence among the dropped
      classes, so the loss is never above distillation;
    - if [z - v] differs by at most r among the dropped classes, the difference is at
      most [m T r] and at most [m r^2 / 8];
    - the gradients agree in every kept class. In a dropped class, the teacher's
      probability is replaced by the student's share of m, and the absolute differences
      sum to at most [2 T m tanh(r / 4T)], so to at most [2 T m];
    - with another mass m' in place of m, they sum to at most [2 T max(m, m')]. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T01 T03.
Open Scope R_scope.

(** The probability of the dropped classes together. *)
Definition share (n : nat) (keep : nat -> bool) (p : vec) : R := total n (rest keep p).

(** The divergence among the dropped classes: of the probabilities given that the class
    is dropped. *)
Definition kl_dropped (n : nat) (keep : nat -> bool) (p q : vec) : R :=
  total n (rest keep (fun k =>
    p k / share n keep p * ln (p k / share n keep p / (q k / share n keep q)))).

(** * Sums over kept and dropped classes *)

Lemma total_split n keep x : total n x = total n (kept keep x) + total n (rest keep x).
Proof.
  rewrite <- total_plus. apply total_ext; intros k _.
  unfold kept, rest. destruct (keep k); ring.
Qed.

Lemma kept_le n keep x y :
  (forall k, (k <= n)%nat -> keep k = true -> x k <= y k) ->
  total n (kept keep x) <= total n (kept keep y).
Proof.
  intros H. apply total_le; intros k Hk. unfold kept.
  destruct (keep k) eqn:K; [auto|lra].
Qed.

Lemma rest_le n keep x y :
  (forall k, (k <= n)%nat -> keep k = false -> x k <= y k) ->
  total n (rest keep x) <= total n (rest keep y).
Proof.
  intros H. apply total_le; intros k Hk. unfold rest.
  destruct (keep k) eqn:K; [lra|auto].
Qed.

Lemma kept_ext n keep x y :
  (forall k, (k <= n)%nat -> keep k = true -> x k = y k) ->
  total n (kept keep x) = total n (kept keep y).
Proof. intros H. apply Rle_antisym; apply kept_le; intros; rewrite H; auto; lra. Qed.

Lemma rest_ext n keep x y :
  (forall k, (k <= n)%nat -> keep k = false -> x k = y k) ->
  total n (rest keep x) = total n (rest keep y).
Proof. intros H. apply Rle_antisym; apply rest_le; intros; rewrite H; auto; lra. Qed.

Lemma rest_linear n keep a b x y :
  total n (rest keep (fun k => a * x k + b * y k))
  = a * total n (rest keep x) + b * total n (rest keep y).
Proof.
  rewrite <- !total_scal_l, <- total_plus. apply total_ext; intros k _.
  unfold rest. destruct (keep k); ring.
Qed.

Lemma kept_linear n keep a b x y :
  total n (kept keep (fun k => a * x k + b * y k))
  = a * total n (kept keep x) + b * total n (kept keep y).
Proof.
  rewrite <- !total_scal_l, <- total_plus. apply total_ext; intros k _.
  unfold kept. destruct (keep k); ring.
Qed.

Lemma rest_pos n keep x k :
  (forall j, 0 < x j) -> (k <= n)%nat -> keep k = false -> 0 < total n (rest keep x).
Proof.
  intros H Hk K. apply Rlt_le_trans with (rest keep x k).
  - unfold rest. rewrite K. apply H.
  - apply (term_le_total n (rest keep x) k); [|exact Hk].
    intros j _. unfold rest. destruct (keep j); [lra|left; apply H].
Qed.

(** Some class is dropped, or none is. *)
Lemma dropped_or_not n keep :
  (exists k, (k <= n)%nat /\ keep k = false)
  \/ (forall k, (k <= n)%nat -> keep k = true).
Proof.
  induction n as [|n IH].
  - destruct (keep O) eqn:K; [right|left; exists O; auto].
    intros k Hk. replace k with O by lia. exact K.
  - destruct IH as [[k [Hk K]]|H]; [left; exists k; split; [lia|exact K]|].
    destruct (keep (S n)) eqn:K; [right|left; exists (S n); auto].
    intros k Hk. destruct (Nat.eq_dec k (S n)) as [E|E]; [rewrite E; exact K|].
    apply H; lia.
Qed.

Lemma rest_none n keep x :
  (forall k, (k <= n)%nat -> keep k = true) -> total n (rest keep x) = 0.
Proof.
  intros H. rewrite <- (total_zero n). apply total_ext; intros k Hk.
  unfold rest. rewrite H; auto.
Qed.

(** * The chain rule of relative entropy *)

Lemma ln_div_pos a b : 0 < a -> 0 < b -> ln (a / b) = ln a - ln b.
Proof. intros; apply ln_div; assumption. Qed.

Lemma kl_chain :
  forall n keep p q, (forall k, 0 < p k) -> (forall k, 0 < q k) ->
    kl n p q = sparse_kl n keep p q + share n keep p * kl_dropped n keep p q.
Proof.
  intros n keep p q Hp Hq. unfold kl, sparse_kl, kl_dropped.
  fold (share n keep p) (share n keep q). rewrite (total_split n keep).
  destruct (dropped_or_not n keep) as [[j [Hj J]]|H].
  - assert (M : 0 < share n keep p) by (apply (rest_pos n keep p j); auto).
    assert (S : 0 < share n keep q) by (apply (rest_pos n keep q j); auto).
    set (m := share n keep p) in *. set (s := share n keep q) in *.
    rewrite (rest_ext n keep (fun k => p k * ln (p k / q k))
      (fun k => m * (p k / m * ln (p k / m / (q k / s))) + ln (m / s) * p k)).
    + rewrite (rest_linear n keep m). fold (share n keep p); fold m. ring.
    + intros k _ _. pose proof (Hp k). pose proof (Hq k).
      rewrite !ln_div_pos by (try apply Rdiv_lt_0_compat; auto).
      field; lra.
  - unfold share. rewrite !(rest_none n keep) by exact H. ring.
Qed.

(** [a ln (a / b)] lies above its tangent. *)
Lemma entropy_tangent a b : 0 < a -> 0 < b -> a - b <= a * ln (a / b).
Proof.
  intros Ha Hb. replace (ln (a / b)) with (- ln (b / a))
    by (rewrite !ln_div_pos by assumption; ring).
  assert (L : ln (b / a) <= b / a - 1).
  { pose proof (exp_ineq1_le (ln (b / a))) as E.
    rewrite exp_ln in E by (apply Rdiv_lt_0_compat; assumption). lra. }
  apply (Rmult_le_compat_l a) in L; [|lra].
  replace (a * (b / a - 1)) with (b - a) in L by (field; lra). lra.
Qed.

Lemma rest_share n keep p k :
  (forall j, 0 < p j) -> (k <= n)%nat -> keep k = false ->
  total n (rest keep (fun j => p j / share n keep p)) = 1.
Proof.
  intros Hp Hk K. pose proof (rest_pos n keep p k Hp Hk K) as M.
  fold (share n keep p) in M.
  rewrite (rest_ext n keep _ (fun j => / share n keep p * p j + 0 * 0))
    by (intros; field; lra).
  rewrite rest_linear. fold (share n keep p). field; lra.
Qed.

Lemma kl_dropped_nonneg :
  forall n keep p q, (forall k, 0 < p k) -> (forall k, 0 < q k) ->
    0 <= kl_dropped n keep p q.
Proof.
  intros n keep p q Hp Hq. unfold kl_dropped.
  destruct (dropped_or_not n keep) as [[j [Hj J]]|H];
    [|rewrite (rest_none n keep) by exact H; lra].
  pose proof (rest_pos n keep p j Hp Hj J) as M. fold (share n keep p) in M.
  pose proof (rest_pos n keep q j Hq Hj J) as S. fold (share n keep q) in S.
  apply Rle_trans with (total n (rest keep (fun k =>
    1 * (p k / share n keep p) + -1 * (q k / share n keep q)))).
  - rewrite rest_linear, !(rest_share n keep _ j) by assumption. lra.
  - apply rest_le; intros k _ _.
    pose proof (entropy_tangent (p k / share n keep p) (q k / share n keep q)
      (Rdiv_lt_0_compat _ _ (Hp k) M) (Rdiv_lt_0_compat _ _ (Hq k) S)). lra.
Qed.

(** T15: distillation is top-k distillation and the divergence among the dropped
    classes. *)
Theorem kd_chain :
  forall n T keep z v,
    let p := softmax n T v in
    let q := softmax n T z in
    kd n T z v
    = sparse_kd n T keep z v + T ^ 2 * (share n keep p * kl_dropped n keep p q).
Proof.
  intros n T keep z v p q. unfold kd, sparse_kd.
  rewrite (kl_chain n keep) by (intros; apply softmax_pos).
  fold p q. ring.
Qed.

(** T15: if no class is dropped, top-k distillation is distillation. *)
Theorem sparse_kd_all :
  forall n T keep z v, (forall k, (k <= n)%nat -> keep k = true) ->
    sparse_kd n T keep z v = kd n T z v.
Proof.
  intros n T keep z v H. rewrite (kd_chain n T keep). unfold share.
  rewrite (rest_none n keep) by exact H. ring.
Qed.

Lemma share_nonneg n keep p : (forall k, 0 < p k) -> 0 <= share n keep p.
Proof.
  intros H. apply total_nonneg; intros k _. unfold rest.
  destruct (keep k); [lra|left; apply H].
Qed.

(** T15: top-k distillation is never above distillation. *)
Theorem sparse_kd_le_kd :
  forall n T keep z v, sparse_kd n T keep z v <= kd n T z v.
Proof.
  intros n T keep z v. rewrite (kd_chain n T keep).
  pose proof (share_nonneg n keep (softmax n T v) (softmax_pos n T v)).
  pose proof (kl_dropped_nonneg n keep (softmax n T v) (softmax n T z)
    (softmax_pos n T v) (softmax_pos n T z)).
  pose proof (Rmult_le_pos _ _ (pow2_ge_0 T) (Rmult_le_pos _ _ H H0)). lra.
Qed.

(** T15: top-k distillation is never negative. *)
Theorem sparse_kd_nonneg :
  forall n T keep z v, 0 <= sparse_kd n T keep z v.
Proof.
  intros n T keep z v. unfold sparse_kd. apply Rmult_le_pos; [apply pow2_ge_0|].
  set (p := softmax n T v). set (q := softmax n T z).
  assert (Hp : forall k, 0 < p k) by (intros; apply softmax_pos).
  assert (Hq : forall k, 0 < q k) by (intros; apply softmax_pos).
  assert (K : total n (kept keep p) - total n (kept keep q)
              <= total n (kept keep (fun k => p k * ln (p k / q k)))).
  { replace (total n (kept keep p) - total n (kept keep q))
      with (total n (kept keep (fun k => 1 * p k + -1 * q k)))
      by (rewrite kept_linear; ring).
    apply kept_le; intros k _ _. pose proof (entropy_tangent (p k) (q k) (Hp k) (Hq k)).
    lra. }
  assert (R : share n keep p - share n keep q
              <= share n keep p * ln (share n keep p / share n keep q)).
  { destruct (dropped_or_not n keep) as [[j [Hj J]]|H].
    - apply entropy_tangent; [apply (rest_pos n keep p j)|apply (rest_pos n keep q j)];
        assumption.
    - unfold share. rewrite !(rest_none n keep) by exact H. lra. }
  unfold sparse_kl. fold (share n keep p) (share n keep q).
  pose proof (softmax_total n T v) as P. fold p in P.
  pose proof (softmax_total n T z) as Q. fold q in Q.
  rewrite (total_split n keep) in P, Q.
  fold (share n keep p) in P. fold (share n keep q) in Q. lra.
Qed.

(** * How much is left out *)

(** The sum of exponentials over the dropped classes. *)
Definition rest_exp (n : nat) (T : R) (keep : nat -> bool) (z : vec) : R :=
  total n (rest keep (fun k => exp (z k / T))).

Lemma rest_exp_pos n T keep z j :
  (j <= n)%nat -> keep j = false -> 0 < rest_exp n T keep z.
Proof.
  intros Hj J. apply (rest_pos n keep (fun k => exp (z k / T)) j); auto.
  intros; apply exp_pos.
Qed.

Lemma share_softmax n T keep z :
  share n keep (softmax n T z)
  = rest_exp n T keep z / total n (fun k => exp (z k / T)).
Proof.
  unfold share, rest_exp. rewrite <- total_div. apply total_ext; intros k _.
  unfold rest, softmax. destruct (keep k); [unfold Rdiv; ring|reflexivity].
Qed.

(** A probability given that the class is dropped depends on the dropped classes only. *)
Lemma softmax_dropped n T keep z j k :
  (j <= n)%nat -> keep j = false ->
  softmax n T z k / share n keep (softmax n T z) = exp (z k / T) / rest_exp n T keep z.
Proof.
  intros Hj J. rewrite share_softmax. unfold softmax.
  pose proof (rest_exp_pos n T keep z j Hj J).
  pose proof (total_exp_pos n (fun k => z k / T)). field. lra.
Qed.

(** [within_dropped n keep x r]: the values of [x] at the dropped classes differ by at
    most [r]. *)
Definition within_dropped (n : nat) (keep : nat -> bool) (x : vec) (r : R) : Prop :=
  forall j k, (j <= n)%nat -> (k <= n)%nat -> keep j = false -> keep k = false ->
    x j - x k <= r.

Lemma kl_dropped_range n T keep z v r j :
  0 < T -> (j <= n)%nat -> keep j = false ->
  within_dropped n keep (fun k => z k - v k) r ->
  kl_dropped n keep (softmax n T v) (softmax n T z) <= r / T.
Proof.
  intros HT Hj J Hr. unfold kl_dropped.
  set (p := softmax n T v). set (q := softmax n T z).
  pose proof (rest_exp_pos n T keep v j Hj J) as V.
  pose proof (rest_exp_pos n T keep z j Hj J) as Z.
  apply Rle_trans with
    (total n (rest keep (fun k => r / T * (p k / share n keep p) + 0 * 0))).
  - apply rest_le; intros k Hk K. rewrite Rmult_0_l, Rplus_0_r, (Rmult_comm (r / T)).
    apply Rmult_le_compat_l.
    { left; apply Rdiv_lt_0_compat; [apply softmax_pos|].
      apply (rest_pos n keep p j); auto. intros; apply softmax_pos. }
    unfold p, q. rewrite !(softmax_dropped n T keep _ j) by assumption.
    rewrite <- (ln_exp (r / T)). apply ln_le.
    { repeat apply Rdiv_lt_0_compat; auto; apply exp_pos. }
    assert (B : rest_exp n T keep z
                <= exp ((z k - v k + r) / T) * rest_exp n T keep v).
    { replace (exp ((z k - v k + r) / T) * rest_exp n T keep v)
        with (total n (rest keep (fun i =>
          exp ((z k - v k + r) / T) * exp (v i / T) + 0 * 0)))
        by (rewrite rest_linear; unfold rest_exp; ring).
      apply rest_le; intros i Hi I.
      rewrite Rmult_0_l, Rplus_0_r, <- exp_plus.
      apply exp_le. pose proof (Hr i k Hi Hk I K) as D; cbv beta in D.
      replace ((z k - v k + r) / T + v i / T) with ((z k - v k + r + v i) / T)
        by (field; lra).
      apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; exact HT|lra]. }
    apply Rle_div_l in B; [|exact V].
    replace (exp (v k / T) / rest_exp n T keep v / (exp (z k / T) / rest_exp n T keep z))
      with (exp (v k / T) / exp (z k / T) * (rest_exp n T keep z / rest_exp n T keep v))
      by (pose proof (exp_pos (z k / T)); field; lra).
    apply Rle_trans with (exp (v k / T) / exp (z k / T) * exp ((z k - v k + r) / T)).
    + apply Rmult_le_compat_l; [|exact B].
      left; apply Rdiv_lt_0_compat; apply exp_pos.
    + right. unfold Rdiv at 1. rewrite <- exp_Ropp, <- !exp_plus. f_equal. field; lra.
  - rewrite rest_linear, (rest_share n keep p j);
      [lra|intros; apply softmax_pos|assumption|assumption].
Qed.

(** T15: top-k distillation leaves out at most [m T r]. *)
Theorem sparse_kd_range :
  forall n T keep z v r, 0 < T ->
    within_dropped n keep (fun k => z k - v k) r ->
    kd n T z v - sparse_kd n T keep z v <= share n keep (softmax n T v) * T * r.
Proof.
  intros n T keep z v r HT Hr. rewrite (kd_chain n T keep).
  destruct (dropped_or_not n keep) as [[j [Hj J]]|H].
  - pose proof (kl_dropped_range n T keep z v r j HT Hj J Hr) as B.
    apply (Rmult_le_compat_l (T ^ 2 * share n keep (softmax n T v))) in B.
    + replace (T ^ 2 * share n keep (softmax n T v) * (r / T))
        with (share n keep (softmax n T v) * T * r) in B by (field; lra). lra.
    + apply Rmult_le_pos; [apply pow2_ge_0|apply share_nonneg, softmax_pos].
  - unfold share. rewrite (rest_none n keep) by exact H. lra.
Qed.

(** [replaced keep a z]: the logits [z] with [a] in every kept class. *)
Definition replaced (keep : nat -> bool) (a : R) (z : vec) : vec :=
  fun k => if keep k then a else z k.

Lemma rest_exp_replaced n T keep a z :
  rest_exp n T keep (replaced keep a z) = rest_exp n T keep z.
Proof. apply rest_ext; intros k _ K. unfold replaced. rewrite K. reflexivity. Qed.

(** The divergence among the dropped classes does not depend on the kept classes. *)
Lemma kl_dropped_replaced n T keep z v a b j :
  (j <= n)%nat -> keep j = false ->
  kl_dropped n keep (softmax n T (replaced keep b v)) (softmax n T (replaced keep a z))
  = kl_dropped n keep (softmax n T v) (softmax n T z).
Proof.
  intros Hj J. apply rest_ext; intros k _ K.
  rewrite !(softmax_dropped n T keep _ j) by assumption.
  rewrite !rest_exp_replaced. unfold replaced. rewrite K. reflexivity.
Qed.

(** Kept classes with logit [T ln e] have probability at most [C e / (V + C e)]. *)
Lemma share_replaced n T keep v e j :
  0 < T -> 0 < e -> (j <= n)%nat -> keep j = false ->
  rest_exp n T keep v
  <= share n keep (softmax n T (replaced keep (T * ln e) v))
     * (rest_exp n T keep v + classes n * e).
Proof.
  intros HT He Hj J. rewrite share_softmax, rest_exp_replaced.
  pose proof (rest_exp_pos n T keep v j Hj J) as V.
  set (y := replaced keep (T * ln e) v).
  pose proof (total_exp_pos n (fun k => y k / T)) as Y. cbv beta in Y.
  assert (B : total n (fun k => exp (y k / T)) <= rest_exp n T keep v + classes n * e).
  { rewrite (total_split n keep), <- (rest_exp_replaced n T keep (T * ln e) v).
    fold y. unfold rest_exp. rewrite Rplus_comm. apply Rplus_le_compat_l.
    rewrite <- (total_const n e). apply total_le; intros k _.
    unfold kept, y, replaced. destruct (keep k); [|lra]. right.
    replace (T * ln e / T) with (ln e) by (field; lra). apply exp_ln, He. }
  apply Rmult_le_reg_r with (total n (fun k => exp (y k / T))); [exact Y|].
  replace (rest_exp n T keep v / total n (fun k => exp (y k / T))
           * (rest_exp n T keep v + classes n * e) * total n (fun k => exp (y k / T)))
    with (rest_exp n T keep v * (rest_exp n T keep v + classes n * e)) by (field; lra).
  apply Rmult_le_compat_l; lra.
Qed.

(** A bound for all kept logits is a bound without them. *)
Lemma kl_dropped_popoviciu n T keep z v r j :
  0 < T -> (j <= n)%nat -> keep j = false ->
  within_dropped n keep (fun k => z k - v k) r ->
  T ^ 2 * kl_dropped n keep (softmax n T v) (softmax n T z) <= r ^ 2 / 8.
Proof.
  intros HT Hj J Hr. set (K := kl_dropped n keep (softmax n T v) (softmax n T z)).
  pose proof (rest_exp_pos n T keep v j Hj J) as V.
  pose proof (classes_pos n) as C.
  assert (K0 : 0 <= K) by (apply kl_dropped_nonneg; intros; apply softmax_pos).
  assert (B : forall e, 0 < e ->
    T ^ 2 * K * rest_exp n T keep v <= r ^ 2 / 8 * (rest_exp n T keep v + classes n * e)).
  { intros e He. set (b := T * ln e).
    set (v' := replaced keep b v). set (z' := replaced keep (b + (z j - v j)) z).
    assert (D : kd n T z' v' <= r ^ 2 / 8).
    { apply kd_bound_range; [exact HT|]. intros i k Hi Hk. unfold z', v', replaced.
      destruct (keep i) eqn:I; destruct (keep k) eqn:Kk.
      - pose proof (Hr j j Hj Hj J J) as H; cbv beta in H. lra.
      - pose proof (Hr j k Hj Hk J Kk) as H; cbv beta in H. lra.
      - pose proof (Hr i j Hi Hj I J) as H; cbv beta in H. lra.
      - exact (Hr i k Hi Hk I Kk). }
    rewrite (kd_chain n T keep) in D. unfold z', v' in D.
    rewrite (kl_dropped_replaced n T keep z v _ _ j Hj J) in D. fold K z' v' in D.
    pose proof (sparse_kd_nonneg n T keep z' v') as S.
    pose proof (share_replaced n T keep v e j HT He Hj J) as M. fold b v' in M.
    set (m := share n keep (softmax n T v')) in *.
    assert (W : 0 < rest_exp n T keep v + classes n * e)
      by (pose proof (Rmult_lt_0_compat _ _ C He); lra).
    apply Rle_trans with (T ^ 2 * K * (m * (rest_exp n T keep v + classes n * e))).
    - apply Rmult_le_compat_l; [|exact M]. apply Rmult_le_pos; [apply pow2_ge_0|exact K0].
    - rewrite <- Rmult_assoc. apply Rmult_le_compat_r; lra. }
  apply Rmult_le_reg_r with (rest_exp n T keep v); [exact V|].
  apply le_epsilon. intros eps Heps.
  set (w := r ^ 2 / 8 * classes n). assert (w0 : 0 <= w).
  { apply Rmult_le_pos; [|lra]. pose proof (pow2_ge_0 r); lra. }
  assert (E : 0 < eps / (w + 1)) by (apply Rdiv_lt_0_compat; lra).
  specialize (B _ E).
  assert (w * (eps / (w + 1)) <= eps).
  { replace (w * (eps / (w + 1))) with (eps - eps / (w + 1)) by (field; lra). lra. }
  unfold w in *. lra.
Qed.

(** T15: top-k distillation leaves out at most [m r^2 / 8], at every temperature. *)
Theorem sparse_kd_square :
  forall n T keep z v r, 0 < T ->
    within_dropped n keep (fun k => z k - v k) r ->
    kd n T z v - sparse_kd n T keep z v <= share n keep (softmax n T v) * (r ^ 2 / 8).
Proof.
  intros n T keep z v r HT Hr. rewrite (kd_chain n T keep).
  destruct (dropped_or_not n keep) as [[j [Hj J]]|H].
  - pose proof (kl_dropped_popoviciu n T keep z v r j HT Hj J Hr) as B.
    apply (Rmult_le_compat_l (share n keep (softmax n T v))) in B;
      [lra|apply share_nonneg, softmax_pos].
  - unfold share. rewrite (rest_none n keep) by exact H. lra.
Qed.

(** * Gradients *)

(** The gradient of top-k distillation from the teacher's probabilities [p]: in a dropped
    class, the teacher's probability is replaced by the student's share of m. *)
Definition sparse_gradient_from (n : nat) (T : R) (keep : nat -> bool) (z p : vec) : vec :=
  let q := softmax n T z in
  fun k => if keep k then T * (q k - p k)
           else T * (q k - share n keep p * (q k / share n keep q)).
Definition sparse_gradient (n : nat) (T : R) (keep : nat -> bool) (z v : vec) : vec :=
  sparse_gradient_from n T keep z (softmax n T v).

(** The derivative of the probability of the dropped classes. *)
Lemma is_derive_share n T keep y s d :
  moves n y s d ->
  let q := softmax n T (y s) in
  is_derive (fun t => share n keep (softmax n T (y t))) s
    ((total n (rest keep (fun k => q k * d k)) - share n keep q * expectation n q d) / T).
Proof.
  intros H q. eapply is_derive_eq.
  - apply (is_derive_total n (fun t => rest keep (softmax n T (y t)))
      (rest keep (fun k => q k * (d k - expectation n q d) / T))).
    intros k Hk. unfold rest. destruct (keep k); [apply derive_const|].
    apply is_derive_softmax; assumption.
  - unfold share. rewrite (rest_ext n keep _ (fun k =>
      / T * (q k * d k) + - (expectation n q d / T) * q k))
      by (intros; unfold Rdiv; ring).
    rewrite rest_linear. unfold Rdiv; ring.
Qed.

(** The derivative of a term of the kept classes. *)
Lemma is_derive_kept n T keep y s d p :
  (forall k, 0 < p k) -> moves n y s d ->
  is_derive (fun t => total n (kept keep (fun k => p k * ln (p k / softmax n T (y t) k)))) s
    ((total n (kept keep p) * expectation n (softmax n T (y s)) d
      - total n (kept keep (fun k => p k * d k))) / T).
Proof.
  intros Hp H. set (e := expectation n (softmax n T (y s)) d). eapply is_derive_eq.
  - apply (is_derive_total n
      (fun t => kept keep (fun k => p k * ln (p k / softmax n T (y t) k)))
      (kept keep (fun k => p k * (0 - (d k / T - e / T))))).
    intros k Hk. unfold kept. destruct (keep k); [|apply derive_const].
    apply derive_scal.
    apply is_derive_ext with
      (f := fun t => ln (p k) - (y t k / T - log_total n T (y t))).
    { intros t. rewrite <- ln_softmax.
      rewrite ln_div_pos by (apply softmax_pos || apply Hp). reflexivity. }
    apply derive_minus; [apply derive_const|].
    apply derive_minus; [apply derive_over, H, Hk|apply is_derive_log_total, H].
  - rewrite (kept_ext n keep _ (fun k => e / T * p k + - / T * (p k * d k)))
      by (intros; unfold Rdiv; ring).
    rewrite kept_linear. unfold Rdiv; ring.
Qed.

Lemma is_derive_sparse n T keep y s d p j :
  T <> 0 -> (j <= n)%nat -> keep j = false ->
  (forall k, 0 < p k) -> total n p = 1 -> moves n y s d ->
  let q := softmax n T (y s) in
  is_derive (fun t => T ^ 2 * sparse_kl n keep p (softmax n T (y t))) s
    (T * (expectation n q d - total n (kept keep (fun k => p k * d k))
          - share n keep p * (total n (rest keep (fun k => q k * d k)) / share n keep q))).
Proof.
  intros HT Hj J Hp P H q.
  assert (Q : forall t, 0 < share n keep (softmax n T (y t)))
    by (intros t; apply (rest_pos n keep _ j); auto; intros; apply softmax_pos).
  assert (M : 0 < share n keep p) by (apply (rest_pos n keep _ j); auto).
  set (e := expectation n q d).
  eapply is_derive_eq.
  - unfold sparse_kl. apply derive_scal, derive_plus.
    + apply is_derive_kept; [exact Hp|exact H].
    + apply derive_scal.
      apply is_derive_ext with
        (f := fun t => ln (share n keep p) - ln (share n keep (softmax n T (y t)))).
      { intros t. unfold share in *. rewrite ln_div_pos; auto. }
      apply derive_minus; [apply derive_const|].
      apply (derive_comp ln (fun t => share n keep (softmax n T (y t)))).
      * apply is_derive_Reals, derivable_pt_lim_ln, Q.
      * apply is_derive_share, H.
  - fold q e. fold (share n keep p).
    rewrite (total_split n keep) in P. fold (share n keep p) in P.
    specialize (Q s). fold q in Q.
    replace (total n (kept keep p)) with (1 - share n keep p) by lra.
    field. lra.
Qed.

Lemma sparse_partial n T keep z p j k :
  T <> 0 -> (j <= n)%nat -> keep j = false -> (forall i, 0 < p i) -> total n p = 1 ->
  (k <= n)%nat ->
  partial_at (fun x => T ^ 2 * sparse_kl n keep p (softmax n T x)) z k
    (sparse_gradient_from n T keep z p k).
Proof.
  intros HT Hj J Hp P Hk.
  eapply partial_of_derive; [apply (is_derive_sparse n T keep (bump z k) 0 (onehot k)
    p j HT Hj J Hp P (moves_bump n z k 0))|].
  assert (E : forall i, (i <= n)%nat -> softmax n T (bump z k 0) i = softmax n T z i)
    by (intros; apply softmax_bump_0; assumption).
  rewrite expectation_bump_0, expectation_onehot by exact Hk.
  replace (share n keep (softmax n T (bump z k 0))) with (share n keep (softmax n T z))
    by (apply rest_ext; intros; rewrite E; auto).
  set (q := softmax n T z).
  rewrite (total_ext n (kept keep (fun i => p i * onehot k i))
    (fun i => kept keep p i * onehot k i))
    by (intros i _; unfold kept; destruct (keep i); ring).
  rewrite (total_ext n (rest keep (fun i => softmax n T (bump z k 0) i * onehot k i))
    (fun i => rest keep q i * onehot k i))
    by (intros i Hi; unfold rest; destruct (keep i); [ring|rewrite E by exact Hi; auto]).
  unfold onehot. rewrite !total_onehot by exact Hk.
  unfold sparse_gradient_from, kept, rest. fold q. destruct (keep k); unfold Rdiv; ring.
Qed.

(** T15: the gradient of top-k distillation. *)
Theorem sparse_kd_gradient :
  forall n T keep z v, T <> 0 ->
    gradient_at n (fun x => sparse_kd n T keep x v) z (sparse_gradient n T keep z v).
Proof.
  intros n T keep z v HT k Hk.
  destruct (dropped_or_not n keep) as [[j [Hj J]]|H].
  - apply (sparse_partial n T keep z (softmax n T v) j); try assumption.
    + apply softmax_pos.
    + apply softmax_total.
  - unfold partial_at, sparse_gradient, sparse_gradient_from. rewrite (H k Hk).
    apply is_derive_Reals. apply is_derive_ext with (f := fun t => kd n T (bump z k t) v).
    { intros t. symmetry. apply sparse_kd_all, H. }
    apply is_derive_Reals. apply (kd_gradient n T z v HT k Hk).
Qed.

(** T15: the gradients agree in every kept class, and the absolute differences in the
    dropped classes sum to at most [2 T m]. *)
Theorem sparse_kd_gradient_error :
  forall n T keep z v g h, 0 < T ->
    gradient_at n (fun x => kd n T x v) z g ->
    gradient_at n (fun x => sparse_kd n T keep x v) z h ->
    (forall k, (k <= n)%nat -> keep k = true -> h k = g k)
    /\ total n (fun k => Rabs (h k - g k)) <= 2 * T * share n keep (softmax n T v).
Proof.
  intros n T keep z v g h HT Hg Hh.
  set (p := softmax n T v). set (q := softmax n T z).
  assert (G : forall k, (k <= n)%nat -> g k = T * (q k - p k)).
  { intros k Hk. eapply uniqueness_limite; [apply (Hg k Hk)|].
    apply (kd_gradient n T z v); [lra|exact Hk]. }
  assert (S : forall k, (k <= n)%nat -> h k = sparse_gradient n T keep z v k).
  { intros k Hk. eapply uniqueness_limite; [apply (Hh k Hk)|].
    apply sparse_kd_gradient; [lra|exact Hk]. }
  unfold sparse_gradient, sparse_gradient_from in S. fold p q in S.
  set (m := share n keep p) in *. set (s := share n keep q) in *.
  split.
  - intros k Hk K. rewrite G, S, K by exact Hk. reflexivity.
  - apply Rle_trans with (total n (rest keep (fun k => T * p k + T * (m / s) * q k))).
    + apply total_le; intros k Hk. rewrite G, S by exact Hk. unfold rest.
      destruct (keep k) eqn:K; [rewrite Rminus_eq_0, Rabs_R0; lra|].
      assert (P : 0 < p k) by apply softmax_pos.
      assert (Q : 0 < q k) by apply softmax_pos.
      assert (M : 0 < m) by (apply (rest_pos n keep p k); auto;
        intros; apply softmax_pos).
      assert (S0 : 0 < s) by (apply (rest_pos n keep q k); auto;
        intros; apply softmax_pos).
      pose proof (Rmult_lt_0_compat _ _ HT P).
      pose proof (Rmult_lt_0_compat _ _ (Rmult_lt_0_compat _ _ HT
        (Rdiv_lt_0_compat _ _ M S0)) Q).
      replace (T * (q k - m * (q k / s)) - T * (q k - p k))
        with (T * p k - T * (m / s) * q k) by (field; lra).
      apply Rabs_le. lra.
    + rewrite rest_linear. fold (share n keep p) (share n keep q). fold m s.
      destruct (dropped_or_not n keep) as [[j [Hj J]]|H].
      * assert (S0 : 0 < s) by (apply (rest_pos n keep q j); auto;
          intros; apply softmax_pos).
        right. field. lra.
      * unfold m, s, share. rewrite !(rest_none n keep) by exact H. lra.
Qed.

(** * A sharper bound of the gradient *)

(** If the odds of a set under two distributions differ by a factor of at most [u^2], its
    probabilities differ by at most [(u - 1) / (u + 1)]. *)
Lemma odds_bound x y u :
  0 <= x <= 1 -> 0 <= y <= 1 -> 1 <= u ->
  x * (1 - y) <= u ^ 2 * (y * (1 - x)) -> x - y <= (u - 1) / (u + 1).
Proof.
  intros Hx Hy Hu H.
  assert (A0 : 0 <= x * (1 - y)) by (apply Rmult_le_pos; lra).
  assert (B0 : 0 <= y * (1 - x)) by (apply Rmult_le_pos; lra).
  set (a := sqrt (x * (1 - y))). set (b := sqrt (y * (1 - x))).
  assert (A : a ^ 2 = x * (1 - y)) by (apply pow2_sqrt, A0).
  assert (B : b ^ 2 = y * (1 - x)) by (apply pow2_sqrt, B0).
  assert (a0 : 0 <= a) by apply sqrt_pos. assert (b0 : 0 <= b) by apply sqrt_pos.
  assert (U : a <= u * b).
  { apply Rsqr_incr_0; [unfold Rsqr|exact a0|apply Rmult_le_pos; lra]. nra. }
  assert (L : a + b <= 1).
  { (* (a + b)^2 = 1 - (c - d)^2 with c d = a b *)
    set (c := sqrt (x * y)). set (d := sqrt ((1 - x) * (1 - y))).
    assert (C : c ^ 2 = x * y) by (apply pow2_sqrt, Rmult_le_pos; lra).
    assert (D : d ^ 2 = (1 - x) * (1 - y)) by (apply pow2_sqrt, Rmult_le_pos; lra).
    assert (E : a * b = c * d).
    { unfold a, b, c, d. rewrite <- !sqrt_mult; try (apply Rmult_le_pos; lra); try lra.
      f_equal. ring. }
    assert ((a + b) ^ 2 + (c - d) ^ 2 = 1) by nra.
    apply Rsqr_incr_0_var; [unfold Rsqr|lra].
    pose proof (pow2_ge_0 (c - d)). lra. }
  apply Rmult_le_reg_r with (u + 1); [lra|].
  replace ((u - 1) / (u + 1) * (u + 1)) with (u - 1) by (field; lra).
  replace (x - y) with ((a - b) * (a + b)) by (ring_simplify; rewrite A, B; ring).
  assert (S1 : (a - b) * (u + 1) <= (u - 1) * (a + b)) by nra.
  apply Rle_trans with ((u - 1) * (a + b) * (a + b)).
  - replace ((a - b) * (a + b) * (u + 1)) with ((a - b) * (u + 1) * (a + b)) by ring.
    apply Rmult_le_compat_r; lra.
  - assert ((a + b) * (a + b) <= 1) by nra. nra.
Qed.

Lemma total_product n x y :
  total n x * total n y = total n (fun j => total n (fun k => x j * y k)).
Proof.
  rewrite <- total_scal_r. apply total_ext; intros j _. symmetry. apply total_scal_l.
Qed.

(** The total variation of two distributions whose likelihood ratios differ by a factor of
    at most [u^2]. *)
Lemma total_variation n p q u :
  (forall k, (k <= n)%nat -> 0 <= p k) -> (forall k, (k <= n)%nat -> 0 <= q k) ->
  total n p = 1 -> total n q = 1 -> 1 <= u ->
  (forall j k, (j <= n)%nat -> (k <= n)%nat -> p j * q k <= u ^ 2 * (q j * p k)) ->
  total n (fun k => Rabs (p k - q k)) <= 2 * ((u - 1) / (u + 1)).
Proof.
  intros Hp Hq P Q Hu H.
  set (more := fun k => if Rlt_dec (q k) (p k) then true else false).
  set (x := total n (kept more p)). set (y := total n (kept more q)).
  assert (X : total n (rest more p) = 1 - x)
    by (pose proof (total_split n more p); unfold x; lra).
  assert (Y : total n (rest more q) = 1 - y)
    by (pose proof (total_split n more q); unfold y; lra).
  replace (total n (fun k => Rabs (p k - q k))) with (2 * (x - y)).
  - apply Rmult_le_compat_l; [lra|]. apply odds_bound; [| |exact Hu|].
    + split; [|enough (0 <= total n (rest more p)) by lra];
        apply total_nonneg; intros k Hk; unfold kept, rest; destruct (more k);
        auto; lra.
    + split; [|enough (0 <= total n (rest more q)) by lra];
        apply total_nonneg; intros k Hk; unfold kept, rest; destruct (more k);
        auto; lra.
    + rewrite <- X, <- Y. unfold x, y. rewrite !total_product, <- total_scal_l.
      apply total_le; intros j Hj. rewrite <- total_scal_l.
      apply total_le; intros k Hk. unfold kept, rest.
      destruct (more j), (more k); try lra. apply H; assumption.
  - symmetry. rewrite (total_split n more).
    replace (2 * (x - y))
      with (1 * x + -1 * y + (1 * total n (rest more q) + -1 * total n (rest more p)))
      by lra.
    unfold x, y. rewrite <- kept_linear, <- rest_linear. f_equal.
    + apply kept_ext; intros k _ K. unfold more in K.
      destruct (Rlt_dec (q k) (p k)); [|discriminate]. rewrite Rabs_pos_eq; lra.
    + apply rest_ext; intros k _ K. unfold more in K.
      destruct (Rlt_dec (q k) (p k)); [discriminate|]. rewrite Rabs_left1; lra.
Qed.

Lemma tanh_half u y : u = exp (2 * y) -> (u - 1) / (u + 1) = tanh y.
Proof.
  intros E. unfold tanh, sinh, cosh. rewrite E, exp_Ropp.
  replace (2 * y) with (y + y) by ring. rewrite exp_plus.
  pose proof (exp_pos y). field. split; nra.
Qed.

(** T15: if [z - v] differs by at most r among the dropped classes, the absolute
    differences of the gradients sum to at most [2 T m tanh(r / 4T)]. *)
Theorem sparse_kd_gradient_range :
  forall n T keep z v g h r, 0 < T ->
    within_dropped n keep (fun k => z k - v k) r ->
    gradient_at n (fun x => kd n T x v) z g ->
    gradient_at n (fun x => sparse_kd n T keep x v) z h ->
    total n (fun k => Rabs (h k - g k))
    <= 2 * T * share n keep (softmax n T v) * tanh (r / (4 * T)).
Proof.
  intros n T keep z v g h r HT Hr Hg Hh.
  set (p := softmax n T v). set (q := softmax n T z).
  assert (Hp : forall k, 0 < p k) by (intros; apply softmax_pos).
  assert (Hq : forall k, 0 < q k) by (intros; apply softmax_pos).
  assert (G : forall k, (k <= n)%nat -> g k = T * (q k - p k)).
  { intros k Hk. eapply uniqueness_limite; [apply (Hg k Hk)|].
    apply (kd_gradient n T z v); [lra|exact Hk]. }
  assert (S : forall k, (k <= n)%nat -> h k = sparse_gradient n T keep z v k).
  { intros k Hk. eapply uniqueness_limite; [apply (Hh k Hk)|].
    apply sparse_kd_gradient; [lra|exact Hk]. }
  unfold sparse_gradient, sparse_gradient_from in S. fold p q in S.
  destruct (dropped_or_not n keep) as [[i [Hi I]]|H].
  - pose proof (rest_pos n keep p i Hp Hi I) as M. fold (share n keep p) in M.
    pose proof (rest_pos n keep q i Hq Hi I) as S0. fold (share n keep q) in S0.
    set (p' := rest keep (fun k => p k / share n keep p)).
    set (q' := rest keep (fun k => q k / share n keep q)).
    rewrite (total_ext n _ (fun k => T * share n keep p * Rabs (p' k - q' k))).
    2: { intros k Hk. rewrite G, S by exact Hk. unfold p', q', rest.
         destruct (keep k); [rewrite !Rminus_eq_0, Rabs_R0; ring|].
         rewrite <- (Rabs_pos_eq (T * share n keep p)) at 1
           by (apply Rmult_le_pos; lra).
         rewrite <- Rabs_mult. f_equal. field. lra. }
    rewrite total_scal_l.
    set (u := exp (r / (2 * T))).
    rewrite <- (tanh_half u) by (unfold u; f_equal; field; lra).
    replace (2 * T * share n keep p * ((u - 1) / (u + 1)))
      with (T * share n keep p * (2 * ((u - 1) / (u + 1)))) by ring.
    apply Rmult_le_compat_l; [apply Rmult_le_pos; lra|].
    assert (P' : forall k, 0 <= p' k) by (intros k; unfold p', rest; destruct (keep k);
      [lra|left; apply Rdiv_lt_0_compat; auto]).
    assert (Q' : forall k, 0 <= q' k) by (intros k; unfold q', rest; destruct (keep k);
      [lra|left; apply Rdiv_lt_0_compat; auto]).
    apply total_variation; [intros; apply P'|intros; apply Q'| | | |].
    + apply (rest_share n keep p i); assumption.
    + apply (rest_share n keep q i); assumption.
    + pose proof (Hr i i Hi Hi I I) as R0. cbv beta in R0.
      rewrite <- exp_0. apply exp_le. apply Rdiv_le_0_compat; lra.
    + intros j k Hj Hk. unfold p', q', rest.
      destruct (keep j) eqn:J; [lra|]. destruct (keep k) eqn:K; [lra|].
      unfold p, q. rewrite !(softmax_dropped n T keep _ i) by assumption.
      pose proof (rest_exp_pos n T keep v i Hi I) as V.
      pose proof (rest_exp_pos n T keep z i Hi I) as Z.
      set (a := rest_exp n T keep v) in *. set (b := rest_exp n T keep z) in *.
      replace (exp (v j / T) / a * (exp (z k / T) / b))
        with (exp (v j / T) * exp (z k / T) * / (a * b)) by (field; lra).
      replace (u ^ 2 * (exp (z j / T) / b * (exp (v k / T) / a)))
        with (u * u * (exp (z j / T) * exp (v k / T)) * / (a * b)) by (field; lra).
      apply Rmult_le_compat_r.
      { left. apply Rinv_0_lt_compat, Rmult_lt_0_compat; assumption. }
      unfold u. rewrite <- !exp_plus. apply exp_le.
      pose proof (Hr k j Hk Hj K J) as D. cbv beta in D.
      apply Rmult_le_reg_r with T; [exact HT|].
      replace ((v j / T + z k / T) * T) with (v j + z k) by (field; lra).
      replace ((r / (2 * T) + r / (2 * T) + (z j / T + v k / T)) * T)
        with (r + (z j + v k)) by (field; lra).
      lra.
  - rewrite (total_ext n _ (fun _ => 0)), total_zero.
    + unfold share. rewrite (rest_none n keep) by exact H. lra.
    + intros k Hk. rewrite G, S, (H k) by exact Hk. rewrite Rminus_eq_0. apply Rabs_R0.
Qed.

(** * A mass that is only known approximately *)

(** The teacher's probabilities, rescaled so that the dropped classes have mass [m']. *)
Definition with_mass (n : nat) (keep : nat -> bool) (p : vec) (m' : R) : vec :=
  let m := share n keep p in
  fun k => if keep k then p k * ((1 - m') / (1 - m)) else p k * (m' / m).

Lemma with_mass_share n keep p m' :
  0 < share n keep p -> share n keep (with_mass n keep p m') = m'.
Proof.
  intros M. unfold share at 1.
  rewrite (rest_ext n keep _ (fun k => m' / share n keep p * p k + 0 * 0)).
  - rewrite rest_linear. fold (share n keep p). field. lra.
  - intros k _ K. unfold with_mass. rewrite K. ring.
Qed.

Lemma with_mass_total n keep p m' :
  total n p = 1 -> 0 < share n keep p < 1 -> total n (with_mass n keep p m') = 1.
Proof.
  intros P M. rewrite (total_split n keep). fold (share n keep (with_mass n keep p m')).
  rewrite with_mass_share by lra.
  rewrite (kept_ext n keep _
    (fun k => (1 - m') / (1 - share n keep p) * p k + 0 * 0)).
  - rewrite kept_linear. rewrite (total_split n keep) in P. fold (share n keep p) in P.
    replace (total n (kept keep p)) with (1 - share n keep p) by lra. field. lra.
  - intros k _ K. unfold with_mass. rewrite K. ring.
Qed.

(** T15: if the loss is computed with the mass [m'] in place of m, the absolute
    differences of the gradients sum to at most [2 T max(m, m')]. *)
Theorem sparse_kd_gradient_mass :
  forall n T keep z v m' g h, 0 < T ->
    let m := share n keep (softmax n T v) in
    0 < m < 1 -> 0 < m' < 1 ->
    gradient_at n (fun x => kd n T x v) z g ->
    gradient_at n (fun x => T ^ 2 * sparse_kl n keep
      (with_mass n keep (softmax n T v) m') (softmax n T x)) z h ->
    total n (fun k => Rabs (h k - g k)) <= 2 * T * Rmax m m'.
Proof.
  intros n T keep z v m' g h HT m Hm Hm' Hg Hh. unfold m in *. clear m.
  set (p := softmax n T v) in *. set (q := softmax n T z).
  assert (Hp : forall k, 0 < p k) by (intros; apply softmax_pos).
  assert (Hq : forall k, 0 < q k) by (intros; apply softmax_pos).
  assert (P : total n p = 1) by apply softmax_total.
  destruct (dropped_or_not n keep) as [[i [Hi I]]|N];
    [|unfold share in Hm; rewrite (rest_none n keep p N) in Hm; lra].
  pose proof (rest_pos n keep q i Hq Hi I) as S0. fold (share n keep q) in S0.
  assert (W : forall k, 0 < with_mass n keep p m' k).
  { intros k. unfold with_mass. destruct (keep k);
      (apply Rmult_lt_0_compat; [apply Hp|apply Rdiv_lt_0_compat; lra]). }
  assert (G : forall k, (k <= n)%nat -> g k = T * (q k - p k)).
  { intros k Hk. eapply uniqueness_limite; [apply (Hg k Hk)|].
    apply (kd_gradient n T z v); [lra|exact Hk]. }
  assert (S : forall k, (k <= n)%nat ->
    h k = sparse_gradient_from n T keep z (with_mass n keep p m') k).
  { intros k Hk. eapply uniqueness_limite; [apply (Hh k Hk)|].
    apply (sparse_partial n T keep z _ i); try assumption; [lra|].
    apply with_mass_total; assumption. }
  unfold sparse_gradient_from in S. fold q in S.
  rewrite with_mass_share in S by lra.
  set (m := share n keep p) in *. set (s := share n keep q) in *.
  assert (K : total n (kept keep p) = 1 - m).
  { rewrite (total_split n keep) in P. fold (share n keep p) in P. fold m in P. lra. }
  apply Rle_trans with
    (total n (kept keep (fun k => T * (Rabs (m - m') / (1 - m)) * p k + 0 * 0))
     + total n (rest keep (fun k => T * p k + T * (m' / s) * q k))).
  - rewrite (total_split n keep). apply Rplus_le_compat.
    + apply kept_le; intros k Hk Kk. right. rewrite G, S, Kk by exact Hk.
      unfold with_mass. rewrite Kk. fold m.
      replace (T * (q k - p k * ((1 - m') / (1 - m))) - T * (q k - p k))
        with (T * p k * / (1 - m) * - (m - m')) by (field; lra).
      pose proof (Rmult_lt_0_compat _ _ (Rmult_lt_0_compat _ _ HT (Hp k))
        (Rinv_0_lt_compat (1 - m) ltac:(lra))).
      rewrite Rabs_mult, Rabs_Ropp, (Rabs_pos_eq (T * p k * / (1 - m))) by lra.
      unfold Rdiv. ring.
    + apply rest_le; intros k Hk Kk. rewrite G, S, Kk by exact Hk.
      pose proof (Rmult_lt_0_compat _ _ HT (Hp k)).
      assert (MS : 0 < m' / s) by (apply Rdiv_lt_0_compat; lra).
      pose proof (Rmult_lt_0_compat _ _ (Rmult_lt_0_compat _ _ HT MS) (Hq k)).
      replace (T * (q k - m' * (q k / s)) - T * (q k - p k))
        with (T * p k - T * (m' / s) * q k) by (field; lra).
      apply Rabs_le. lra.
  - rewrite kept_linear, rest_linear, K. fold (share n keep p) (share n keep q).
    fold m s.
    replace (T * (Rabs (m - m') / (1 - m)) * (1 - m) + 0 * total n (kept keep (fun _ => 0))
             + (T * m + T * (m' / s) * s))
      with (T * (Rabs (m - m') + m + m')) by (field; lra).
    rewrite (Rmult_comm 2), Rmult_assoc. apply Rmult_le_compat_l; [lra|].
    unfold Rmax. destruct (Rle_dec m m') as [L|L].
    + rewrite Rabs_left1; lra.
    + rewrite Rabs_pos_eq; lra.
Qed.
