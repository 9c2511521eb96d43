(** T4. Infinite temperature.

    As T grows, distillation tends to [var d / 2], which is logits matching without the
    gap of the means, and its gradient to [(d_k - mean d) / C]. For logits within R, the
    distances from these limits are at most [(exp (R / T) - 1) * var d / 2] and
    [D * (exp (R / T) - 1) / C], where [d = z - v] is within D. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums Derivatives T01 T02 T03.
Open Scope R_scope.

(** T4: half of the variance is logits matching without the gap of the means. *)
Theorem half_variance :
  forall n z v, variance n (fun k => z k - v k) / 2 = matching n z v - gap n z v.
Proof. intros n z v. unfold matching, gap. rewrite variance_moments. field. Qed.

(** T4, the rate of the loss. *)
Theorem kd_rate :
  forall n T z v R,
    0 < T -> within n z R -> within n v R ->
    let limit := variance n (fun k => z k - v k) / 2 in
    Rabs (kd n T z v - limit) <= (exp (R / T) - 1) * limit.
Proof.
  intros n T z v R HT Hz Hv limit.
  destruct (kd_bounds n T z v R HT Hz Hv) as [L U]. fold limit in L, U.
  assert (V : 0 <= limit)
    by (pose proof (variance_nonneg n (fun k => z k - v k)); unfold limit; lra).
  assert (E : 2 <= exp (R / T) + exp (- (R / T))).
  { pose proof (exp_pos (R / T)). rewrite exp_Ropp.
    assert (exp (R / T) * / exp (R / T) = 1) by (field; lra).
    pose proof (Rinv_0_lt_compat _ H).
    pose proof (pow2_ge_0 (exp (R / T) - 1)). nra. }
  apply Rabs_le. split; [|lra].
  pose proof (Rmult_le_compat_r limit _ _ V E). lra.
Qed.

(** * The rate of the gradient *)

Definition positive_part (a : R) : R := if Rle_dec a 0 then 0 else a.

(** If the coefficients sum to zero, then a linear form is at most the range of the
    vector times the sum of the positive coefficients. *)
Lemma linear_form_bound n a d D :
  total n a = 0 -> within n d D ->
  Rabs (total n (fun k => a k * d k)) <= D * total n (fun k => positive_part (a k)).
Proof.
  intros Ha Hd. destruct (within_interval n d D Hd) as [b Hb].
  assert (P : forall c x, 0 <= x <= D -> c * x <= D * positive_part c).
  { intros c x Hx. unfold positive_part. destruct (Rle_dec c 0) as [L|L].
    - pose proof (Rmult_le_pos (- c) x). lra.
    - rewrite (Rmult_comm D). apply Rmult_le_compat_l; lra. }
  assert (U : forall c x, total n (fun k => a k * (c * (d k) + x))
                          = c * total n (fun k => a k * d k)).
  { intros c x. rewrite (total_ext n _ (fun k => c * (a k * d k) + a k * x))
      by (intros; ring).
    rewrite total_plus, total_scal_l, total_scal_r, Ha. ring. }
  rewrite <- total_scal_l. apply Rabs_le. split.
  - enough (- 1 * total n (fun k => a k * d k)
            <= total n (fun k => D * positive_part (a k))) by lra.
    rewrite <- (U (- 1) (b + D)).
    apply total_le; intros k Hk. apply P. specialize (Hb k Hk). lra.
  - enough (1 * total n (fun k => a k * d k)
            <= total n (fun k => D * positive_part (a k))) by lra.
    rewrite <- (U 1 (- b)).
    apply total_le; intros k Hk. apply P. specialize (Hb k Hk). lra.
Qed.

(** The coefficients of the distance between the two gradients at class [k], for
    predictions [p] and uniform weights [u]. *)
Definition coefficient (p : vec) (u : R) (k j : nat) : R :=
  p k * (onehot k j - p j) - u * (onehot k j - u).

Lemma coefficient_total n p k :
  (k <= n)%nat -> total n p = 1 -> total n (coefficient p (/ classes n) k) = 0.
Proof.
  intros Hk Hp. unfold coefficient.
  rewrite total_minus, !total_scal_l, !total_minus, onehot_total, Hp by exact Hk.
  rewrite total_const, Rinv_r by apply classes_neq. ring.
Qed.

Lemma coefficient_form n p k d :
  (k <= n)%nat ->
  total n (fun j => coefficient p (/ classes n) k j * d j)
  = p k * (d k - expectation n p d) - (d k - mean n d) / classes n.
Proof.
  intros Hk. unfold coefficient. set (u := / classes n).
  rewrite (total_ext n _ (fun j => (p k - u) * (d j * onehot k j)
                          - (p k * (p j * d j) - u * u * d j))) by (intros; ring).
  rewrite !total_minus, !total_scal_l. unfold onehot. rewrite total_onehot by exact Hk.
  unfold expectation, mean, u, Rdiv. ring.
Qed.

(** Sums over the classes that [J] holds. *)
Definition inside (J : nat -> bool) (x : vec) : vec := fun j => if J j then x j else 0.

Lemma inside_total n J x :
  total n (inside J x) + total n (inside (fun j => negb (J j)) x) = total n x.
Proof.
  rewrite <- total_plus. apply total_ext; intros j _.
  unfold inside. destruct (J j); simpl; ring.
Qed.

Lemma inside_le n J x y :
  (forall k, (k <= n)%nat -> x k <= y k) -> total n (inside J x) <= total n (inside J y).
Proof.
  intros H. apply total_le; intros k Hk. unfold inside. destruct (J k); [auto|lra].
Qed.

Lemma inside_scal n J c x :
  total n (inside J (fun k => c * x k)) = c * total n (inside J x).
Proof.
  rewrite <- total_scal_l. apply total_ext; intros k _.
  unfold inside. destruct (J k); ring.
Qed.

Section Coefficients.
Variables (n : nat) (p : vec) (e : R) (k : nat).
Let u := / classes n.
Hypothesis Hk : (k <= n)%nat.
Hypothesis Hp : total n p = 1.
Hypothesis He : 1 <= e.
Hypothesis Upper : forall j, (j <= n)%nat -> p j <= e * u.
Hypothesis Lower : forall j, (j <= n)%nat -> u <= e * p j.

Let u_pos : 0 < u. Proof. apply Rinv_0_lt_compat, classes_pos. Qed.
Let u_total : total n (fun _ => u) = 1.
Proof. rewrite total_const. apply Rinv_r, classes_neq. Qed.
Let p_pos : forall j, (j <= n)%nat -> 0 < p j.
Proof. intros j Hj. specialize (Lower j Hj). pose proof u_pos. nra. Qed.

(** For a set of classes without [k]: [p_k S - u M <= u (e - 1)], where [S] and [M] are
    its weights under [p] and under uniform weights. *)
Lemma surplus J :
  p k * total n (inside J p) - u * total n (inside J (fun _ => u)) <= u * (e - 1).
Proof.
  set (S := total n (inside J p)). set (M := total n (inside J (fun _ => u))).
  assert (S0 : 0 <= S).
  { apply total_nonneg; intros j Hj. unfold inside. pose proof (p_pos j Hj).
    destruct (J j); lra. }
  assert (C : 1 - M <= e * (1 - S)).
  { pose proof (inside_total n J p) as A. pose proof (inside_total n J (fun _ => u)) as B.
    rewrite Hp in A. rewrite u_total in B. fold S in A. fold M in B.
    replace (1 - M) with (total n (inside (fun j => negb (J j)) (fun _ => u))) by lra.
    replace (1 - S) with (total n (inside (fun j => negb (J j)) p)) by lra.
    rewrite <- inside_scal. apply inside_le, Lower. }
  apply Rle_trans with (e * u * S - u * M).
  - pose proof (Rmult_le_compat_r S _ _ S0 (Upper k Hk)). lra.
  - replace (e * u * S - u * M) with (u * (e * S - M)) by ring.
    apply Rmult_le_compat_l; lra.
Qed.

(** Likewise, [u M - p_k S <= u (e - 1)]. *)
Lemma deficit J :
  u * total n (inside J (fun _ => u)) - p k * total n (inside J p) <= u * (e - 1).
Proof.
  set (S := total n (inside J p)). set (M := total n (inside J (fun _ => u))).
  assert (S0 : 0 <= S).
  { apply total_nonneg; intros j Hj. unfold inside. pose proof (p_pos j Hj).
    destruct (J j); lra. }
  assert (M0 : 0 <= 1 - M).
  { pose proof (inside_total n J (fun _ => u)) as B. rewrite u_total in B. fold M in B.
    enough (0 <= total n (inside (fun j => negb (J j)) (fun _ => u))) by lra.
    apply total_nonneg; intros j _. unfold inside. destruct (negb (J j)); lra. }
  assert (C : 1 - S <= e * (1 - M)).
  { pose proof (inside_total n J p) as A. pose proof (inside_total n J (fun _ => u)) as B.
    rewrite Hp in A. rewrite u_total in B. fold S in A. fold M in B.
    replace (1 - M) with (total n (inside (fun j => negb (J j)) (fun _ => u))) by lra.
    replace (1 - S) with (total n (inside (fun j => negb (J j)) p)) by lra.
    rewrite <- inside_scal. apply inside_le, Upper. }
  assert (P : u * S <= e * (p k * S)).
  { rewrite <- Rmult_assoc. apply Rmult_le_compat_r; [exact S0|auto]. }
  (* With e M - S <= e - 1, the product with e is at most u (e - 1). *)
  apply (Rmult_le_reg_l e); [lra|].
  apply Rle_trans with (u * (e * M - S)); [lra|].
  apply Rle_trans with (u * (e - 1)); [apply Rmult_le_compat_l; lra|].
  assert (0 <= u * (e - 1)) by (apply Rmult_le_pos; lra).
  pose proof (Rmult_le_compat_r (u * (e - 1)) 1 e H He). lra.
Qed.

(** The positive coefficients sum to at most [u (e - 1)]. *)
Lemma positive_coefficients :
  total n (fun j => positive_part (coefficient p u k j)) <= u * (e - 1).
Proof.
  destruct (Rle_dec (coefficient p u k k) 0) as [L|L].
  - (* The positive coefficients belong to other classes. *)
    set (J := fun j => if Rle_dec (coefficient p u k j) 0 then false else true).
    eapply Rle_trans; [right|apply (deficit J)].
    rewrite <- !total_scal_l, <- total_minus. apply total_ext; intros j Hj.
    unfold positive_part, inside, J.
    destruct (Rle_dec (coefficient p u k j) 0) as [N|N]; [ring|].
    unfold coefficient, onehot. destruct (Nat.eqb_spec j k) as [->|_]; [lra|ring].
  - (* Minus the other coefficients, which belong to other classes. *)
    set (J := fun j => if Rle_dec (coefficient p u k j) 0 then true else false).
    eapply Rle_trans; [right|apply (surplus J)].
    pose proof (coefficient_total n p k Hk Hp) as Z. fold u in Z.
    rewrite <- (Rplus_0_r (total n _)), <- Z at 1.
    rewrite <- (Rminus_0_r (total n _ + _)).
    enough (total n (fun j => positive_part (coefficient p u k j))
            - total n (coefficient p u k)
            = p k * total n (inside J p) - u * total n (inside J (fun _ => u))) by lra.
    rewrite <- !total_scal_l, <- !total_minus. apply total_ext; intros j Hj.
    unfold positive_part, inside, J.
    destruct (Rle_dec (coefficient p u k j) 0) as [N|N]; [|ring].
    unfold coefficient, onehot. destruct (Nat.eqb_spec j k) as [->|_]; [lra|ring].
Qed.
End Coefficients.

(** The component of the gradient is, up to a factor, the derivative of the prediction
    somewhere between teacher and student. *)
Lemma gradient_mean_value n T z v k :
  0 < T -> (k <= n)%nat ->
  exists s, 0 < s < 1 /\
    let p := softmax n T (between v (fun j => z j - v j) s) in
    T * (softmax n T z k - softmax n T v k)
    = p k * (z k - v k - expectation n p (fun j => z j - v j)).
Proof.
  intros HT Hk. set (d := fun j => z j - v j).
  destruct (MVT_cor2 (fun s => softmax n T (between v d s) k)
    (fun s => softmax n T (between v d s) k
              * (d k - expectation n (softmax n T (between v d s)) d) / T)
    0 1 Rlt_0_1) as [s [E Hs]].
  { intros s _. apply is_derive_Reals, is_derive_softmax; [apply moves_between|exact Hk]. }
  exists s; split; [exact Hs|]. intros p. fold p in E.
  rewrite (softmax_ext n T (between v d 1) z) in E
    by (try assumption; intros; apply between_1).
  rewrite (softmax_ext n T (between v d 0) v) in E
    by (try assumption; intros; apply between_0).
  rewrite E. change (z k - v k) with (d k). field. lra.
Qed.

Lemma distance_rate :
  forall n T z v R D k,
    0 < T -> within n z R -> within n v R ->
    within n (fun j => z j - v j) D -> (k <= n)%nat ->
    let d := fun j => z j - v j in
    Rabs (T * (softmax n T z k - softmax n T v k) - (d k - mean n d) / classes n)
    <= D * ((exp (R / T) - 1) / classes n).
Proof.
  intros n T z v R D k HT Hz Hv HD Hk d.
  destruct (gradient_mean_value n T z v k HT Hk) as [s [Hs E]]. rewrite E. fold d.
  set (p := softmax n T (between v d s)).
  assert (W : within n (between v d s) R)
    by (apply within_between; [lra|assumption|assumption]).
  assert (Hr : 0 <= R / T) by (apply Rdiv_le_0_compat; [apply (within_nonneg n z), Hz|lra]).
  pose proof (classes_pos n) as C0.
  change (z k - v k) with (d k). rewrite <- (coefficient_form n p k d Hk).
  eapply Rle_trans; [apply (linear_form_bound n _ d D); [|exact HD]|].
  - apply coefficient_total; [exact Hk|apply softmax_total].
  - apply Rmult_le_compat_l; [apply (within_nonneg n d), HD|].
    replace ((exp (R / T) - 1) / classes n) with (/ classes n * (exp (R / T) - 1))
      by (unfold Rdiv; ring).
    apply positive_coefficients.
    + exact Hk.
    + apply softmax_total.
    + rewrite <- exp_0. apply exp_le, Hr.
    + intros j Hj. pose proof (softmax_upper n T _ R j HT W Hj) as U. fold p in U.
      pose proof (factor_upper n (R / T) Hr).
      apply (Rmult_le_reg_l (classes n)); [exact C0|].
      replace (classes n * (exp (R / T) * / classes n)) with (exp (R / T)) by (field; lra).
      lra.
    + intros j Hj. pose proof (softmax_lower n T _ R j HT W Hj) as L. fold p in L.
      pose proof (factor_lower n (R / T) Hr) as F. rewrite exp_Ropp in F.
      pose proof (exp_pos (R / T)) as P.
      apply (Rmult_le_reg_l (classes n * / exp (R / T))).
      * apply Rmult_lt_0_compat; [exact C0|apply Rinv_0_lt_compat, P].
      * replace (classes n * / exp (R / T) * / classes n) with (/ exp (R / T))
          by (field; lra).
        replace (classes n * / exp (R / T) * (exp (R / T) * p j)) with (classes n * p j)
          by (field; lra).
        lra.
Qed.

(** A gradient of the loss is T times the distance of the predictions. *)
Lemma kd_gradient_unique n T z v g k :
  T <> 0 -> gradient_at n (fun x => kd n T x v) z g -> (k <= n)%nat ->
  g k = T * (softmax n T z k - softmax n T v k).
Proof.
  intros HT Hg Hk. eapply derivative_unique; [apply (Hg k Hk)|].
  apply kd_gradient; assumption.
Qed.

(** T4, the rate of the gradient. *)
Theorem kd_gradient_rate :
  forall n T z v g R D k,
    0 < T -> within n z R -> within n v R ->
    within n (fun j => z j - v j) D -> (k <= n)%nat ->
    gradient_at n (fun x => kd n T x v) z g ->
    let d := fun j => z j - v j in
    Rabs (g k - (d k - mean n d) / classes n) <= D * ((exp (R / T) - 1) / classes n).
Proof.
  intros n T z v g R D k HT Hz Hv HD Hk Hg d.
  rewrite (kd_gradient_unique n T z v g k) by (trivial; lra).
  apply distance_rate; assumption.
Qed.

(** * The limits *)

Lemma is_lim_exp_over R : is_lim (fun T => exp (R / T) - 1) p_infty 0.
Proof.
  replace 0 with (exp (R * 0) - 1) by (rewrite Rmult_0_r, exp_0; ring).
  apply (is_lim_minus' (fun T => exp (R / T)) (fun _ => 1)); [|apply is_lim_const].
  apply (is_lim_comp_continuous (fun T => R / T) exp p_infty (R * 0)).
  - apply (is_lim_scal_l Rinv R p_infty 0).
    apply (is_lim_inv (fun T => T) p_infty p_infty); [apply is_lim_id|discriminate].
  - apply (ex_derive_continuous exp). eexists. apply is_derive_exp.
Qed.

(** A function whose distance from [l] is at most a multiple of that tends to [l]. *)
Lemma is_lim_of_rate f l R c :
  (forall T, 0 < T -> Rabs (f T - l) <= c * (exp (R / T) - 1)) -> is_lim f p_infty l.
Proof.
  intros H.
  assert (B : is_lim (fun T => c * (exp (R / T) - 1)) p_infty 0).
  { replace (Finite 0) with (Rbar_mult c 0) by (simpl; f_equal; ring).
    apply is_lim_scal_l, is_lim_exp_over. }
  apply (is_lim_le_le_loc (fun T => l - c * (exp (R / T) - 1))
           (fun T => l + c * (exp (R / T) - 1))).
  - exists 0. intros T HT. specialize (H T HT). apply Rabs_le_between in H. lra.
  - replace (Finite l) with (Finite (l - 0)) by (f_equal; ring).
    apply (is_lim_minus' (fun _ => l)); [apply is_lim_const|exact B].
  - replace (Finite l) with (Finite (l + 0)) by (f_equal; ring).
    apply (is_lim_plus' (fun _ => l)); [apply is_lim_const|exact B].
Qed.

Lemma within_both n z v : exists R, within n z R /\ within n v R.
Proof.
  destruct (within_some n z) as [A HA]. destruct (within_some n v) as [B HB].
  exists (A + B). pose proof (within_nonneg n z A HA). pose proof (within_nonneg n v B HB).
  split; [apply (within_weaker n z A)|apply (within_weaker n v B)]; trivial; lra.
Qed.

(** T4: at infinite temperature, distillation is logits matching without the gap of the
    means. *)
Theorem kd_limit :
  forall n z v,
    is_lim (fun T => kd n T z v) p_infty (matching n z v - gap n z v).
Proof.
  intros n z v. rewrite <- half_variance. destruct (within_both n z v) as [R [Hz Hv]].
  apply (is_lim_of_rate _ _ R (variance n (fun k => z k - v k) / 2)). intros T HT.
  rewrite Rmult_comm. apply kd_rate; assumption.
Qed.

(** T4: the limit of the gradient. *)
Theorem kd_gradient_limit :
  forall n z v (g : R -> vec) k, (k <= n)%nat ->
    (forall T, 0 < T -> gradient_at n (fun x => kd n T x v) z (g T)) ->
    let d := fun j => z j - v j in
    is_lim (fun T => g T k) p_infty ((d k - mean n d) / classes n).
Proof.
  intros n z v g k Hk Hg d. destruct (within_both n z v) as [R [Hz Hv]].
  destruct (within_some n d) as [D HD].
  apply (is_lim_of_rate _ _ R (D / classes n)). intros T HT.
  replace (D / classes n * (exp (R / T) - 1)) with (D * ((exp (R / T) - 1) / classes n))
    by (unfold Rdiv; ring).
  apply (kd_gradient_rate n T z v); auto.
Qed.
