(** T15. How much top-k distillation leaves out.

    At most the teacher's mass of the dropped classes times the range of [z - v] among
    them and the temperature, or times an eighth of the squared range. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums T03 T15.
Open Scope R_scope.

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
