(** T12. The best critic of InfoNCE, and a denominator without the positive.

    No critic has a smaller loss than the density ratio, whose estimate tends to the
    mutual information. *)

From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Kernel Require Import Defs Sums T12.
Open Scope R_scope.

(** * The best critic *)

(** The density ratio, and the chi-squared divergence of the joint distribution from the
    product: the mean of the ratio, minus one. *)
Definition ratio (a b : nat) (P : nat -> nat -> R) (x y : nat) : R :=
  P x y / (of_x b P x * of_y a P y).
Definition chi_squared (a b : nat) (P : nat -> nat -> R) : R :=
  total a (fun x => total b (fun y => P x y * ratio a b P x y)) - 1.

Section Best.

Variables (a b : nat) (P : nat -> nat -> R).
Hypothesis P_distribution : distribution a b P.
Hypothesis P_pos : forall x y, (x <= a)%nat -> (y <= b)%nat -> 0 < P x y.

Lemma of_x_pos x : (x <= a)%nat -> 0 < of_x b P x.
Proof. intros Hx. apply total_pos; intros; apply P_pos; assumption. Qed.

Lemma of_y_pos y : (y <= b)%nat -> 0 < of_y a P y.
Proof. intros Hy. apply total_pos; intros; apply P_pos; assumption. Qed.

Lemma ratio_pos x y : (x <= a)%nat -> (y <= b)%nat -> 0 < ratio a b P x y.
Proof.
  intros Hx Hy. apply Rdiv_lt_0_compat; [apply P_pos; assumption|].
  apply Rmult_lt_0_compat; [apply of_x_pos, Hx|apply of_y_pos, Hy].
Qed.

(** For each x, the mean of the ratio over independent y is one. *)
Lemma ratio_mean x :
  (x <= a)%nat -> total b (fun y => of_y a P y * ratio a b P x y) = 1.
Proof.
  intros Hx. pose proof (of_x_pos x Hx) as X.
  rewrite (total_ext b _ (fun y => / of_x b P x * P x y)).
  - rewrite total_scal_l. fold (of_x b P x). field. lra.
  - intros y Hy. pose proof (of_y_pos y Hy). unfold ratio. field. lra.
Qed.

Lemma mean_of_constant c :
  total a (fun x => total b (fun y => P x y * c)) = c.
Proof.
  destruct P_distribution as [_ T1].
  rewrite (total_ext a _ (fun x => total b (P x) * c)) by (intros; apply total_scal_r).
  rewrite total_scal_r, T1. ring.
Qed.

(** T12: with the density ratio as the critic, the estimate is within
    [chi^2 / (K + 1)] of the information. *)
Theorem info_nce_gap :
  forall K,
    mutual_information a b P - (ln (INR (S K)) - info_nce a b K P (ratio a b P))
    <= chi_squared a b P / INR (S K).
Proof.
  intros K. set (f := ratio a b P). set (w := of_y a P).
  assert (N : 0 < INR (S K)) by (apply lt_0_INR; lia).
  assert (W0 : forall y, (y <= b)%nat -> 0 <= w y) by (intros; left; apply of_y_pos; auto).
  assert (W1 : total b w = 1) by (apply of_y_total; exact P_distribution).
  apply Rle_trans with (total a (fun x => total b (fun y =>
    P x y * ((f x y + INR K) / INR (S K) - 1)))).
  - unfold mutual_information, info_nce. fold w.
    rewrite <- (mean_of_constant (ln (INR (S K)))).
    match goal with |- ?A - (?B - ?C) <= _ =>
      replace (A - (B - C)) with (A - B + C) by ring end.
    rewrite <- total_minus, <- total_plus. apply total_le; intros x Hx.
    rewrite <- total_minus, <- total_plus. apply total_le; intros y Hy.
    rewrite <- Rmult_minus_distr_l, <- Rmult_plus_distr_l.
    apply Rmult_le_compat_l; [left; apply P_pos; assumption|].
    pose proof (ratio_pos x y Hx Hy) as F0. fold f in F0.
    change (P x y / (of_x b P x * w y)) with (f x y).
    replace ((f x y + INR K) / INR (S K) - 1)
      with (draws b w (f x) K (fun s => / INR (S K) * s + -1 * 1) (f x y)).
    + apply Rle_trans with (draws b w (f x) K
        (fun s => (ln (f x y) - ln (INR (S K))) * 1 + 1 * - ln (f x y / s)) (f x y)).
      * rewrite (draws_linear b w (f x) K (fun _ => 1) (fun s => - ln (f x y / s))).
        rewrite draws_const by exact W1. lra.
      * apply draws_le; [exact W0|intros; apply ratio_pos; assumption|].
        intros s Hs. assert (S0 : 0 < s) by lra.
        rewrite ln_div by lra.
        pose proof (exp_ineq1_le (ln (s / INR (S K)))) as E.
        rewrite exp_ln in E by (apply Rdiv_lt_0_compat; assumption).
        rewrite ln_div in E by assumption. unfold Rdiv in E. lra.
    + rewrite (draws_linear b w (f x) K (fun s => s) (fun _ => 1)).
      rewrite draws_const by exact W1.
      rewrite draws_mean; [|exact W0|exact W1|intros; apply ratio_pos; assumption].
      unfold w, f. rewrite ratio_mean by exact Hx. field. lra.
  - right. unfold chi_squared. fold f.
    rewrite (total_ext a _ (fun x => / INR (S K) * total b (fun y => P x y * f x y)
      + total b (fun y => P x y * (INR K / INR (S K) - 1)))).
    + rewrite total_plus, total_scal_l, mean_of_constant.
      rewrite S_INR in *. field. lra.
    + intros x _. rewrite <- total_scal_l, <- total_plus. apply total_ext; intros y _.
      field. lra.
Qed.

(** T12: so the estimate tends to the information as the number of negatives grows. *)
Theorem info_nce_limit :
  is_lim_seq (fun K => ln (INR (S K)) - info_nce a b K P (ratio a b P))
    (mutual_information a b P).
Proof.
  apply is_lim_seq_le_le with
    (u := fun K => mutual_information a b P - chi_squared a b P * / INR (S K))
    (w := fun _ => mutual_information a b P).
  - intros K. split.
    + pose proof (info_nce_gap K). unfold Rdiv in H. lra.
    + apply info_nce_below_information; [exact P_distribution|exact ratio_pos].
  - replace (Finite (mutual_information a b P))
      with (Rbar_minus (mutual_information a b P)
              (Rbar_mult (chi_squared a b P) (Finite 0)))
      by (simpl; f_equal; ring).
    apply is_lim_seq_minus'; [apply is_lim_seq_const|].
    apply (is_lim_seq_scal_l (fun K => / INR (S K)) (chi_squared a b P) 0).
    apply (is_lim_seq_inv (fun K => INR (S K)) p_infty); [|discriminate].
    apply (is_lim_seq_incr_1 INR). apply is_lim_seq_INR.
  - apply is_lim_seq_const.
Qed.

(** T12: no positive critic has a smaller loss than the density ratio. *)
Theorem ratio_is_best :
  forall K f, (forall x y, (x <= a)%nat -> (y <= b)%nat -> 0 < f x y) ->
    info_nce a b K P (ratio a b P) <= info_nce a b K P f.
Proof.
  intros K f Hf. set (r := ratio a b P). set (w := of_y a P).
  assert (N : 0 < INR (S K)) by (apply lt_0_INR; lia).
  assert (W0 : forall y, (y <= b)%nat -> 0 <= w y) by (intros; left; apply of_y_pos; auto).
  assert (W1 : total b w = 1) by (apply of_y_total; exact P_distribution).
  assert (R0 : forall x y, (x <= a)%nat -> (y <= b)%nat -> 0 < r x y) by exact ratio_pos.
  (* Both sums of scores at once. *)
  set (step := fun x (s : R * R) y => (fst s + f x y, snd s + r x y)).
  set (pair := fun x y => (f x y, r x y)).
  assert (L1 : forall x J F s, draws_of b w (step x) J (fun s => F (fst s)) s
                               = draws b w (f x) J F (fst s)).
  { intros x J F. unfold draws. induction J as [|J IH]; intros s; simpl; [reflexivity|].
    apply total_ext; intros y _. rewrite IH. reflexivity. }
  assert (L2 : forall x J F s, draws_of b w (step x) J (fun s => F (snd s)) s
                               = draws b w (r x) J F (snd s)).
  { intros x J F. unfold draws. induction J as [|J IH]; intros s; simpl; [reflexivity|].
    apply total_ext; intros y _. rewrite IH. reflexivity. }
  enough (0 <= info_nce a b K P f - info_nce a b K P r) by lra.
  unfold info_nce. fold w. rewrite <- total_minus.
  apply Rle_trans with (total a (fun x => of_x b P x - of_x b P x)).
  { right. rewrite (total_ext a _ (fun _ => 0)) by (intros; ring).
    symmetry. apply total_zero. }
  apply total_le; intros x Hx. rewrite <- total_minus.
  apply Rle_trans with (total b (fun y => P x y * draws_of b w (step x) K
    (fun s => 1 * 1 + - (f x y * / r x y) * (snd s * / fst s)) (pair x y))).
  - right.
    (* The mean of [sum r * f / sum f], by exchangeability. *)
    assert (X : INR (S K) * total b (fun y => w y * (f x y * draws_of b w (step x) K
                  (fun s => snd s * / fst s) (step x (0, 0) y))) = INR (S K)).
    { rewrite <- (draws_of_exchangeable (R * R) b w (f x) (step x) fst W0)
        with (K := K) (F := fun s => snd s * / fst s) (s := (0, 0)).
      - transitivity (draws_of b w (step x) (S K) (fun s => snd s) (0, 0)).
        + simpl. apply total_ext; intros y Hy. f_equal.
          apply (draws_of_ext (R * R) b w (f x) (step x) fst W0).
          * intros; left; apply Hf; assumption.
          * intros; reflexivity.
          * simpl. intros t Ht. pose proof (Hf x y Hx Hy). field. lra.
        + rewrite (L2 x (S K) (fun s => s)).
          rewrite draws_mean; [|exact W0|exact W1|intros; apply R0; assumption].
          unfold w, r. rewrite ratio_mean by exact Hx. simpl snd. ring.
      - intros; left; apply Hf; assumption.
      - intros; reflexivity.
      - intros s y y'. unfold step; simpl. f_equal; ring. }
    rewrite (total_ext b _ (fun y => P x y - of_x b P x
      * (w y * (f x y * draws_of b w (step x) K
           (fun s => snd s * / fst s) (step x (0, 0) y))))).
    + rewrite total_minus, total_scal_l. fold (of_x b P x).
      match type of X with _ * ?A = _ => assert (X1 : A = 1) end.
      { apply Rmult_eq_reg_l with (INR (S K)); lra. }
      rewrite X1. ring.
    + intros y Hy.
      rewrite (draws_of_linear (R * R) b w (step x) K (fun _ => 1)
        (fun s => snd s * / fst s)).
      rewrite draws_of_const by exact W1.
      replace (step x (0, 0) y) with (pair x y)
        by (unfold step, pair; simpl; f_equal; ring).
      pose proof (of_x_pos x Hx). pose proof (of_y_pos y Hy). pose proof (P_pos x y Hx Hy).
      unfold r, ratio, w. field. lra.
  - apply total_le; intros y Hy. rewrite <- Rmult_minus_distr_l.
    apply Rmult_le_compat_l; [left; apply P_pos; assumption|].
    pose proof (Hf x y Hx Hy) as F0. pose proof (R0 x y Hx Hy) as G0.
    replace (draws b w (f x) K (fun s => - ln (f x y / s)) (f x y)
             - draws b w (r x) K (fun s => - ln (r x y / s)) (r x y))
      with (draws_of b w (step x) K
        (fun s => 1 * - ln (f x y / fst s) + -1 * - ln (r x y / snd s)) (pair x y)).
    + (* Both sums are at least their first terms. *)
      apply (draws_of_le_on (R * R) b w (step x) W0
        (fun s => f x y <= fst s /\ r x y <= snd s)); [| |simpl; lra].
      * intros s i Hi [H1 H2]. unfold step; simpl.
        pose proof (Hf x i Hx Hi). pose proof (R0 x i Hx Hi). lra.
      * intros s [H1 H2]. set (c := f x y * / r x y * (snd s * / fst s)).
        assert (C : 0 < c).
        { unfold c. repeat apply Rmult_lt_0_compat; try lra;
            apply Rinv_0_lt_compat; lra. }
        assert (L : ln c = ln (f x y / fst s) - ln (r x y / snd s)).
        { replace c with (f x y / fst s / (r x y / snd s)) by (unfold c; field; lra).
          apply ln_div; apply Rdiv_lt_0_compat; lra. }
        pose proof (exp_ineq1_le (ln c)) as B. rewrite exp_ln in B by exact C.
        unfold c in *. lra.
    + rewrite (draws_of_linear (R * R) b w (step x) K
        (fun s => - ln (f x y / fst s)) (fun s => - ln (r x y / snd s))).
      rewrite (L1 x K (fun s => - ln (f x y / s))), (L2 x K (fun s => - ln (r x y / s))).
      unfold pair; simpl. ring.
Qed.

End Best.

(** * The positive belongs in the denominator *)

Definition info_nce_without_positive (a b K : nat) (P f : nat -> nat -> R) : R :=
  total a (fun x => total b (fun y =>
    P x y * draws b (of_y a P) (f x) K (fun s => - ln (f x y / s)) 0)).

(** T12: without it, the estimate exceeds the information for every number of
    negatives: with one value of X and Y and a constant critic. *)
Theorem info_nce_without_positive_fails :
  forall K, (1 <= K)%nat -> exists a b P f,
    distribution a b P /\ (forall x y, 0 < f x y)
    /\ mutual_information a b P
       < ln (INR (S K)) - info_nce_without_positive a b K P f.
Proof.
  intros K HK. exists O, O, (fun _ _ => 1), (fun _ _ => 1).
  assert (N : 0 < INR K) by (apply lt_0_INR; lia).
  repeat split; simpl; intros; try lra.
  unfold mutual_information, info_nce_without_positive, of_x, of_y. simpl total.
  assert (D : forall J s, draws 0 (fun _ => 1) (fun _ => 1) J (fun t => - ln (1 / t)) s
                          = - ln (1 / (s + INR J))).
  { induction J as [|J IH]; intros s; [simpl; rewrite Rplus_0_r; reflexivity|].
    rewrite S_INR. unfold draws in *. simpl. rewrite IH, Rmult_1_l.
    replace (s + 1 + INR J) with (s + (INR J + 1)) by ring. reflexivity. }
  rewrite D, Rplus_0_l. replace (1 / (1 * 1)) with 1 by field.
  replace (1 / INR K) with (/ INR K) by (field; lra).
  rewrite ln_1, ln_Rinv by exact N. change (match K with O => 1 | S _ => INR K + 1 end)
    with (INR (S K)).
  rewrite S_INR. assert (L : ln (INR K) < ln (INR K + 1)) by (apply ln_increasing; lra).
  lra.
Qed.
