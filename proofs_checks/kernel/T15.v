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
From Kernel Require Import Defs Sums.
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
