(** T15. Sharper bounds of the gradients of top-k distillation.

    With the range of [z - v] among the dropped classes, and with a mass of the dropped
    classes that is only known approximately. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T01 T03 T15 T15Bounds T15Gradients.
Open Scope R_scope.

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
