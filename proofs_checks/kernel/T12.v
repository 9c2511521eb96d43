(** T12. InfoNCE bounds mutual information.

    Let X and Y have finitely many values and any joint distribution. An example is a
    pair (x, y) of that distribution and K negatives, drawn independently from the
    distribution of Y. For every positive critic f and every number of negatives,

      log(K + 1) - E loss <= min(I(X; Y), log(K + 1)).

    If the positive is left out of the denominator, the first bound does not hold.

    With the density ratio as the critic, the estimate is within [chi^2 / (K + 1)] of the
    information, where [chi^2] is the chi-squared divergence of the joint distribution
    from the product, and no critic has a smaller loss. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums.
Open Scope R_scope.

(** X has the values 0 to a and Y the values 0 to b; [P x y] is the probability of the
    pair. *)
Definition distribution (a b : nat) (P : nat -> nat -> R) : Prop :=
  (forall x y, (x <= a)%nat -> (y <= b)%nat -> 0 <= P x y)
  /\ total a (fun x => total b (P x)) = 1.
Definition of_x (b : nat) (P : nat -> nat -> R) (x : nat) : R := total b (P x).
Definition of_y (a : nat) (P : nat -> nat -> R) (y : nat) : R := total a (fun x => P x y).

(** Mutual information. A pair of probability zero contributes [0 * ln 0 = 0]. *)
Definition mutual_information (a b : nat) (P : nat -> nat -> R) : R :=
  total a (fun x => total b (fun y => P x y * ln (P x y / (of_x b P x * of_y a P y)))).

(** The mean of [F] over K independent draws with probabilities [w]: each draw y takes
    the state s to [step s y]. *)
Fixpoint draws_of {A : Type} (b : nat) (w : vec) (step : A -> nat -> A) (K : nat)
    (F : A -> R) (s : A) : R :=
  match K with
  | O => F s
  | S K' => total b (fun y => w y * draws_of b w step K' F (step s y))
  end.

(** The mean of [F (s + g y_1 + ... + g y_K)]. *)
Definition draws (b : nat) (w g : vec) (K : nat) (F : R -> R) (s : R) : R :=
  draws_of b w (fun t y => t + g y) K F s.

(** The mean InfoNCE loss with critic f: the cross-entropy of picking the positive y,
    with score [f x y], among it and K negatives. *)
Definition info_nce (a b K : nat) (P f : nat -> nat -> R) : R :=
  total a (fun x => total b (fun y =>
    P x y * draws b (of_y a P) (f x) K (fun s => - ln (f x y / s)) (f x y))).

(** * Independent draws *)

Section States.

Variables (A : Type) (b : nat) (w g : vec) (step : A -> nat -> A) (measure : A -> R).
Hypothesis w_nonneg : forall y, (y <= b)%nat -> 0 <= w y.
Hypothesis w_total : total b w = 1.
Hypothesis g_nonneg : forall y, (y <= b)%nat -> 0 <= g y.
Hypothesis measure_step : forall s y, measure (step s y) = measure s + g y.
Hypothesis step_comm : forall s y y', step (step s y) y' = step (step s y') y.

Notation E := (draws_of b w step).

(** If [F <= G] at all states that the draws can reach. *)
Lemma draws_of_le_on (reachable : A -> Prop) K F G :
  (forall s y, (y <= b)%nat -> reachable s -> reachable (step s y)) ->
  (forall t, reachable t -> F t <= G t) ->
  forall s, reachable s -> E K F s <= E K G s.
Proof.
  intros Hr H. induction K as [|K IH]; intros s Hs; simpl; [apply H, Hs|].
  apply total_le; intros y Hy. apply Rmult_le_compat_l; [apply w_nonneg, Hy|].
  apply IH, Hr; assumption.
Qed.

Lemma draws_of_le K F G s :
  (forall t, measure s <= measure t -> F t <= G t) -> E K F s <= E K G s.
Proof.
  intros H. apply (draws_of_le_on (fun t => measure s <= measure t));
    [|exact H|lra].
  intros t y Hy Ht. rewrite measure_step. pose proof (g_nonneg y Hy). lra.
Qed.

Lemma draws_of_ext K F G s :
  (forall t, measure s <= measure t -> F t = G t) -> E K F s = E K G s.
Proof. intros H. apply Rle_antisym; apply draws_of_le; intros; rewrite H; lra. Qed.

Lemma draws_of_linear K F G c d : forall s,
  E K (fun t => c * F t + d * G t) s = c * E K F s + d * E K G s.
Proof.
  induction K as [|K IH]; intros s; simpl; [ring|].
  rewrite <- !total_scal_l, <- total_plus. apply total_ext; intros y _.
  rewrite IH. ring.
Qed.

Lemma draws_of_const K c : forall s, E K (fun _ => c) s = c.
Proof.
  induction K as [|K IH]; intros s; simpl; [reflexivity|]. 
  rewrite (total_ext b _ (fun y => w y * c)) by (intros; rewrite IH; ring).
  rewrite total_scal_r, w_total. ring.
Qed.

(** The draws are exchangeable: the sum of the scores counts each of them as the
    first. *)
Lemma draws_of_exchangeable K F : forall s,
  E (S K) (fun t => (measure t - measure s) * F t) s
  = INR (S K) * total b (fun y => w y * (g y * E K F (step s y))).
Proof.
  induction K as [|K IH]; intros s.
  - simpl. rewrite Rmult_1_l. apply total_ext; intros y _. rewrite measure_step. ring.
  - set (D := total b (fun y => w y * (g y * E (S K) F (step s y)))).
    change (E (S (S K)) (fun t => (measure t - measure s) * F t) s)
      with (total b (fun y =>
        w y * E (S K) (fun t => (measure t - measure s) * F t) (step s y))).
    rewrite (total_ext b _ (fun y =>
      w y * (INR (S K) * total b (fun y' =>
        w y' * (g y' * E K F (step (step s y) y'))))
      + w y * (g y * E (S K) F (step s y)))).
    + rewrite total_plus. fold D.
      replace (total b (fun y => w y * (INR (S K) * total b (fun y' =>
        w y' * (g y' * E K F (step (step s y) y')))))) with (INR (S K) * D).
      * rewrite (S_INR (S K)). ring.
      * unfold D. rewrite <- total_scal_l. simpl draws_of.
        rewrite (total_ext b (fun y => INR (S K) * _) (fun y => total b (fun y' =>
          INR (S K) * w y * g y * w y' * E K F (step (step s y) y')))).
        2: { intros y _. rewrite <- !total_scal_l. apply total_ext; intros y' _.
 ring. }
        rewrite total_swap. apply total_ext; intros y _.
        rewrite <- !total_scal_l. apply total_ext; intros y' _.
        rewrite step_comm. ring.
    + intros y Hy.
      rewrite (draws_of_ext (S K) _
        (fun t => 1 * ((measure t - measure (step s y)) * F t) + g y * F t))
        by (intros; rewrite measure_step; ring).
      rewrite draws_of_linear, IH. ring.
Qed.

(** The mean of the sum of the scores. *)
Lemma draws_of_mean K s : E K measure s = measure s + INR K * total b (fun y => w y * g y).
Proof.
  destruct K as [|K]; [simpl; ring|].
  rewrite (draws_of_ext (S K) measure
    (fun t => 1 * ((measure t - measure s) * 1) + measure s * 1)) by (intros; ring).
  rewrite (draws_of_linear (S K) (fun t => (measure t - measure s) * 1) (fun _ => 1)).
  rewrite (draws_of_exchangeable K (fun _ => 1)), draws_of_const.
  rewrite (total_ext b (fun y => w y * (g y * E K (fun _ => 1) (step s y)))
    (fun y => w y * g y)) by (intros; rewrite draws_of_const; ring).
  ring.
Qed.

End States.

Section Draws.

Variables (b : nat) (w g : vec).
Hypothesis w_nonneg : forall y, (y <= b)%nat -> 0 <= w y.
Hypothesis w_total : total b w = 1.
Hypothesis g_pos : forall y, (y <= b)%nat -> 0 < g y.

Let g_nonneg : forall y, (y <= b)%nat -> 0 <= g y.
Proof. intros y Hy. left. apply g_pos, Hy. Qed.

Lemma draws_le K F G s :
  (forall t, s <= t -> F t <= G t) -> draws b w g K F s <= draws b w g K G s.
Proof. apply (draws_of_le R b w g _ (fun t => t)); auto. Qed.

Lemma draws_ext K F G s :
  (forall t, s <= t -> F t = G t) -> draws b w g K F s = draws b w g K G s.
Proof. apply (draws_of_ext R b w g _ (fun t => t)); auto. Qed.

Lemma draws_linear K F G c d s :
  draws b w g K (fun t => c * F t + d * G t) s
  = c * draws b w g K F s + d * draws b w g K G s.
Proof. apply draws_of_linear. Qed.

Lemma draws_const K c s : draws b w g K (fun _ => c) s = c.
Proof. apply draws_of_const, w_total. Qed.

Lemma draws_exchangeable K F s :
  draws b w g (S K) (fun t => (t - s) * F t) s
  = INR (S K) * total b (fun y => w y * (g y * draws b w g K F (s + g y))).
Proof.
  apply (draws_of_exchangeable R b w g (fun t y => t + g y) (fun t => t))
    with (K := K) (F := F) (s := s); auto. intros; ring.
Qed.

Lemma draws_mean K s :
  draws b w g K (fun t => t) s = s + INR K * total b (fun y => w y * g y).
Proof.
  apply (draws_of_mean R b w g (fun t y => t + g y) (fun t => t)); auto. intros; ring.
Qed.

(** A uniformly chosen draw takes its share of the sum, and the shares sum to one. *)
Lemma draws_share K :
  INR (S K) * total b (fun y => w y * (g y * draws b w g K (fun t => / t) (g y))) = 1.
Proof.
  pose proof (draws_exchangeable K (fun t => / t) 0) as E.
  rewrite (total_ext b (fun y => w y * (g y * draws b w g K _ (g y)))
    (fun y => w y * (g y * draws b w g K (fun t => / t) (0 + g y))))
    by (intros; rewrite Rplus_0_l; reflexivity).
  rewrite <- E. unfold draws. simpl.
  rewrite (total_ext b _ (fun y => w y * 1)).
  - rewrite total_scal_r, w_total. ring.
  - intros y Hy. f_equal. rewrite <- (draws_const K 1 (0 + g y)).
    apply (draws_ext K). intros t Ht. pose proof (g_pos y Hy). field. lra.
Qed.

End Draws.

(** * The bounds *)

Section Bounds.

Variables (a b K : nat) (P f : nat -> nat -> R).
Hypothesis P_distribution : distribution a b P.
Hypothesis f_pos : forall x y, (x <= a)%nat -> (y <= b)%nat -> 0 < f x y.

Lemma P_nonneg x y : (x <= a)%nat -> (y <= b)%nat -> 0 <= P x y.
Proof. apply P_distribution. Qed.

Lemma of_x_ge x y : (x <= a)%nat -> (y <= b)%nat -> P x y <= of_x b P x.
Proof. intros Hx Hy. apply term_le_total; [intros; apply P_nonneg|]; assumption. Qed.

Lemma of_y_ge x y : (x <= a)%nat -> (y <= b)%nat -> P x y <= of_y a P y.
Proof.
  intros Hx Hy. apply (term_le_total a (fun i => P i y) x); [|exact Hx].
  intros; apply P_nonneg; assumption.
Qed.

Lemma of_y_nonneg y : (y <= b)%nat -> 0 <= of_y a P y.
Proof. intros Hy. apply total_nonneg; intros; apply P_nonneg; assumption. Qed.

Lemma of_x_nonneg x : (x <= a)%nat -> 0 <= of_x b P x.
Proof. intros Hx. apply total_nonneg; intros; apply P_nonneg; assumption. Qed.

Lemma of_y_total : total b (of_y a P) = 1.
Proof. unfold of_y. rewrite total_swap. apply P_distribution. Qed.

(** Gibbs' inequality at one point: [p ln (p / q) >= p - q]. The probability q is that of
    the pair if X and Y were independent, times [(K + 1) f / s]. *)
Lemma point_bound x y s :
  (x <= a)%nat -> (y <= b)%nat -> f x y <= s ->
  P x y - INR (S K) * (of_x b P x * (of_y a P y * (f x y * / s)))
  <= P x y * (ln (P x y / (of_x b P x * of_y a P y)) - ln (INR (S K)) - ln (f x y / s)).
Proof.
  intros Hx Hy Hs. pose proof (f_pos x y Hx Hy) as F0.
  assert (N : 0 < INR (S K)) by (apply lt_0_INR; lia).
  pose proof (P_nonneg x y Hx Hy) as P0.
  pose proof (of_x_nonneg x Hx) as X0. pose proof (of_y_nonneg y Hy) as Y0.
  destruct (Rle_lt_or_eq_dec 0 (P x y) P0) as [Q|Q].
  - pose proof (of_x_ge x y Hx Hy). pose proof (of_y_ge x y Hx Hy).
    set (p := P x y) in *. set (u := of_x b P x) in *. set (w := of_y a P y) in *.
    assert (S0 : 0 < f x y / s) by (apply Rdiv_lt_0_compat; lra).
    assert (UW : 0 < u * w) by (apply Rmult_lt_0_compat; lra).
    set (q := INR (S K) * (u * (w * (f x y * / s)))).
    assert (Q0 : 0 < q).
    { unfold q. apply Rmult_lt_0_compat; [exact N|].
      rewrite <- Rmult_assoc. apply Rmult_lt_0_compat; assumption. }
    replace (ln (p / (u * w)) - ln (INR (S K)) - ln (f x y / s)) with (- ln (q / p)).
    + pose proof (exp_ineq1_le (ln (q / p))) as E.
      rewrite exp_ln in E by (apply Rdiv_lt_0_compat; assumption).
      apply (Rmult_le_compat_l p) in E; [|lra].
      replace (p * (q / p)) with q in E by (field; lra). lra.
    + unfold q. replace (INR (S K) * (u * (w * (f x y * / s))))
        with (INR (S K) * (u * w * (f x y / s))) by (unfold Rdiv; ring).
      assert (V0 : 0 < u * w * (f x y / s)) by (apply Rmult_lt_0_compat; assumption).
      rewrite (ln_div p (u * w)), (ln_div _ p), (ln_mult (INR (S K))) by
        (assumption || apply Rmult_lt_0_compat; assumption).
      rewrite (ln_mult (u * w)) by assumption. ring.
  - rewrite <- Q, Rmult_0_l. unfold Rminus. rewrite Rplus_0_l.
    apply Ropp_le_cancel. rewrite Ropp_0, Ropp_involutive.
    repeat apply Rmult_le_pos; try lra. left; apply Rinv_0_lt_compat; lra.
Qed.

(** T12: InfoNCE is at most the mutual information. *)
Theorem info_nce_below_information :
  ln (INR (S K)) - info_nce a b K P f <= mutual_information a b P.
Proof.
  set (w := of_y a P).
  assert (W0 : forall y, (y <= b)%nat -> 0 <= w y) by apply of_y_nonneg.
  set (pmi := fun x y => ln (P x y / (of_x b P x * w y)) - ln (INR (S K))).
  (* The difference of the two sides is a sum over pairs of a mean over draws. *)
  assert (E : mutual_information a b P - (ln (INR (S K)) - info_nce a b K P f)
    = total a (fun x => total b (fun y => draws b w (f x) K
        (fun s => P x y * pmi x y * 1 + P x y * - ln (f x y / s)) (f x y)))).
  { destruct P_distribution as [_ T1].
    replace (ln (INR (S K)))
      with (total a (fun x => total b (fun y => P x y * ln (INR (S K))))).
    2: { rewrite (total_ext a _ (fun x => total b (P x) * ln (INR (S K))))
           by (intros; apply total_scal_r). rewrite total_scal_r, T1. ring. }
    unfold mutual_information, info_nce. fold w.
    match goal with |- ?A - (?B - ?C) = _ =>
      replace (A - (B - C)) with (A - B + C) by ring end.
    rewrite <- total_minus, <- total_plus. apply total_ext; intros x Hx.
    rewrite <- total_minus, <- total_plus. apply total_ext; intros y Hy.
    rewrite draws_linear. rewrite draws_const by exact of_y_total. unfold pmi. ring. }
  enough (0 <= mutual_information a b P - (ln (INR (S K)) - info_nce a b K P f)) by lra.
  rewrite E. clear E.
  (* Gibbs' inequality at every point. *)
  apply Rle_trans with (total a (fun x => total b (fun y => draws b w (f x) K
    (fun s => P x y * 1
      + - (INR (S K) * of_x b P x * (w y * f x y)) * / s) (f x y)))).
  - right. symmetry.
    rewrite (total_ext a _ (fun x => total b (P x) - of_x b P x)).
    + rewrite total_minus. unfold of_x. ring.
    + intros x Hx.
      rewrite (total_ext b _ (fun y => P x y - INR (S K) * of_x b P x
        * (w y * (f x y * draws b w (f x) K (fun t => / t) (f x y))))).
      * rewrite total_minus, total_scal_l. f_equal.
        transitivity (of_x b P x * (INR (S K) * total b (fun y =>
          w y * (f x y * draws b w (f x) K (fun t => / t) (f x y))))); [ring|].
        rewrite draws_share; [ring|exact W0|exact of_y_total|].
        intros; apply f_pos; assumption.
      * intros y Hy.
        rewrite (draws_linear b w (f x) K (fun _ => 1) (fun t => / t)).
        rewrite draws_const by exact of_y_total. ring.
  - apply total_le; intros x Hx. apply total_le; intros y Hy.
    apply draws_le; [exact W0|intros; apply f_pos; assumption|].
    intros s Hs. pose proof (point_bound x y s Hx Hy Hs). fold w in H. unfold pmi. lra.
Qed.

(** T12: InfoNCE saturates at [log(K + 1)]. *)
Theorem info_nce_below_log :
  ln (INR (S K)) - info_nce a b K P f <= ln (INR (S K)).
Proof.
  enough (0 <= info_nce a b K P f) by lra.
  apply total_nonneg; intros x Hx. apply total_nonneg; intros y Hy.
  apply Rmult_le_pos; [apply P_nonneg; assumption|].
  pose proof (f_pos x y Hx Hy) as F0.
  rewrite <- (draws_const b (of_y a P) (f x) of_y_total K 0 (f x y)).
  apply draws_le; [apply of_y_nonneg|intros; apply f_pos; assumption|].
  intros s Hs. enough (ln (f x y / s) <= 0) by lra.
  rewrite <- ln_1. apply ln_le; [apply Rdiv_lt_0_compat; lra|].
  apply Rle_div_l; lra.
Qed.

End Bounds.
