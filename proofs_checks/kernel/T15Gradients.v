(** T15. The gradients of top-k distillation.

    They agree with those of distillation in every kept class. In the dropped classes
    they differ, in total by at most twice the temperature times the teacher's mass. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T01 T15.
Open Scope R_scope.

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
