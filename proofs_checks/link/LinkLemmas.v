(** What the theorems about single outputs of the library need.

    The files beside this one state how far an output is from the number that the
    definitions describe. Logits and outputs are written with hexadecimal digits, as
    Python's [float.hex] writes them: nothing is rounded.

    Coq proves the theorems by computing intervals that contain the exact numbers, with
    CoqInterval's arithmetic, which is proved correct. *)

From Coq Require Export Reals List Lra.
From Coq Require Import ZArith Lia Bool.
From Coquelicot Require Import Rcomplements.
From Interval Require Import Real.Xreal Float.Specific_bigint Float.Specific_ops Interval.Interval
  Interval.Float_full Eval.Tree.
From Kernel Require Export Defs.
From Kernel Require Import Sums T01.
Export ListNotations.
Open Scope R_scope.

(** Logits from a list. *)
Definition logits (x : list R) : vec := fun k => nth k x 0.

(** Classes from a list. *)
Definition classes_of (keep : list bool) : nat -> bool := fun k => nth k keep false.

(** Each component of the gradient of [f] at [z] is within [eps] of that of [g]. *)
Definition gradient_within (n : nat) (f : vec -> R) (z g : vec) (eps : R) : Prop :=
  exists h, gradient_at n f z h
            /\ forall k, (k <= n)%nat -> Rabs (h k - g k) <= eps.

(** * Expressions and the intervals that contain them *)

Module F := SpecificFloat BigIntRadix2.
Module I := FloatIntervalFull F.
Module Bounds := Tree.Bnd I.

Notation expr := Tree.expr.
Definition value (e : expr) : R := Tree.eval e nil.
Definition int (m : Z) : expr := Tree.Econst (Tree.Int m).
Definition add := Tree.Ebinary Tree.Add.
Definition sub := Tree.Ebinary Tree.Sub.
Definition mul := Tree.Ebinary Tree.Mul.
Definition div := Tree.Ebinary Tree.Div.
Definition expo := Tree.Eunary Tree.Exp.
Definition loga := Tree.Eunary Tree.Ln.

(** The number is within [eps] of zero, as far as intervals with 128 binary digits tell:
    at T = 100, 15 of them cancel. *)
Definition precision := F.PtoP 128.
Definition nonnegative (i : I.type) : bool :=
  match I.sign_large i with Xgt | Xeq => true | _ => false end.
Definition interval_of := Bounds.eval_bnd precision.
Definition near_zero (eps : expr) (i : I.type) : bool :=
  let b := interval_of eps in
  nonnegative (I.sub precision b i) && nonnegative (I.add precision b i).

(** The interval contains the number. *)
Definition holds (i : I.type) (x : R) : Prop := contains (I.convert i) (Xreal x).

Lemma interval_of_correct e : holds (interval_of e) (value e).
Proof. apply Bounds.eval_bnd_correct. Qed.

Lemma nonnegative_correct i x :
  nonnegative i = true -> contains (I.convert i) (Xreal x) -> 0 <= x.
Proof.
  unfold nonnegative. pose proof (I.sign_large_correct i) as S.
  destruct (I.sign_large i); try discriminate; intros _ C.
  - specialize (S _ C). injection S. lra.
  - apply (S _ C).
Qed.

Lemma near_zero_correct eps i x :
  holds i x -> near_zero eps i = true -> Rabs x <= value eps.
Proof.
  unfold near_zero. intros E H. apply andb_true_iff in H. destruct H as [L U].
  pose proof (interval_of_correct eps) as P.
  pose proof (nonnegative_correct _ _ L (I.sub_correct _ _ _ _ _ P E)).
  pose proof (nonnegative_correct _ _ U (I.add_correct _ _ _ _ _ P E)).
  apply Rabs_le. lra.
Qed.

(** Sums over the classes. *)
Fixpoint sum_of (n : nat) (f : nat -> expr) : expr :=
  match n with
  | O => f O
  | S m => add (sum_of m f) (f (S m))
  end.

Lemma sum_of_value n f : value (sum_of n f) = total n (fun k => value (f k)).
Proof.
  induction n as [|n IH]; [reflexivity|].
  change (value (sum_of n f) + value (f (S n)) = total (S n) (fun k => value (f k))).
  rewrite IH. reflexivity.
Qed.

Definition at_class (x : list expr) (k : nat) : expr := nth k x (int 0).

Lemma logits_value x k : logits (map value x) k = value (at_class x k).
Proof. exact (map_nth value x (int 0) k). Qed.

(** * The losses as expressions *)

(** The loss with an exponential for each logit. The definition divides in every term,
    which would make the expression as long as the square of the number of classes. *)
Lemma kd_linear n T z v : 0 < T ->
  kd n T z v =
  T * (total n (fun k => exp (v k / T) * (v k - z k))
       / total n (fun k => exp (v k / T)))
  + T * T * (ln (total n (fun k => exp (z k / T)))
             - ln (total n (fun k => exp (v k / T)))).
Proof.
  intros HT. unfold kd. rewrite kl_softmax. unfold log_total, expectation, softmax.
  pose proof (total_exp_neq n (fun k => v k / T)).
  set (V := total n (fun k => exp (v k / T))) in *.
  rewrite (total_ext n _ (fun k => / (T * V) * (exp (v k / T) * (v k - z k))))
    by (intros; field; lra).
  rewrite total_scal_l. field; lra.
Qed.

(** The same for top-k distillation, if a class [j] is dropped. *)
Lemma sparse_kd_linear n T keep z v j : 0 < T -> (j <= n)%nat -> keep j = false ->
  sparse_kd n T keep z v =
  T * (total n (kept keep (fun k => exp (v k / T) * (v k - z k)))
       / total n (fun k => exp (v k / T)))
  + T * T * (ln (total n (fun k => exp (z k / T)))
             - ln (total n (fun k => exp (v k / T)))
             + total n (rest keep (fun k => exp (v k / T)))
               / total n (fun k => exp (v k / T))
               * (ln (total n (rest keep (fun k => exp (v k / T))))
                  - ln (total n (rest keep (fun k => exp (z k / T)))))).
Proof.
  intros HT Hj J. unfold sparse_kd, sparse_kl.
  assert (P : forall x, 0 < total n (rest keep (fun k => exp (x k / T)))).
  { intros x. apply Rlt_le_trans with (rest keep (fun k => exp (x k / T)) j).
    - unfold rest. rewrite J. apply exp_pos.
    - apply (term_le_total n (rest keep (fun k => exp (x k / T)))); [|exact Hj].
      intros k _. unfold rest. destruct (keep k); [lra|left; apply exp_pos]. }
  assert (M : forall x, total n (rest keep (softmax n T x))
    = total n (rest keep (fun k => exp (x k / T))) / total n (fun k => exp (x k / T))).
  { intros x. rewrite <- total_div. apply total_ext; intros k _.
    unfold rest, softmax. destruct (keep k); [unfold Rdiv; ring|reflexivity]. }
  rewrite !M. pose proof (P v) as Vr. pose proof (P z) as Zr.
  pose proof (total_exp_pos n (fun k => v k / T)) as V.
  pose proof (total_exp_pos n (fun k => z k / T)) as Z. cbv beta in V, Z.
  set (a := total n (rest keep (fun k => exp (v k / T)))) in *.
  set (b := total n (rest keep (fun k => exp (z k / T)))) in *.
  set (A := total n (fun k => exp (v k / T))) in *.
  set (B := total n (fun k => exp (z k / T))) in *.
  replace (ln (a / A / (b / B))) with (ln a - ln A - ln b + ln B)
    by (rewrite (ln_div (a / A)), (ln_div a), (ln_div b)
          by (assumption || apply Rdiv_lt_0_compat; assumption); ring).
  assert (K : total n (kept keep (fun k => exp (v k / T))) = A - a).
  { unfold A, a. rewrite <- total_minus. apply total_ext; intros k _.
    unfold kept, rest. destruct (keep k); ring. }
  replace (total n (kept keep (fun k =>
             softmax n T v k * ln (softmax n T v k / softmax n T z k))))
    with (total n (kept keep (fun k => exp (v k / T) * (v k - z k))) / (T * A)
          + total n (kept keep (fun k => exp (v k / T))) * ((ln B - ln A) / A)).
  - rewrite K. field. lra.
  - rewrite <- total_div, <- total_scal_r, <- total_plus.
    apply total_ext; intros k _. unfold kept. destruct (keep k); [|unfold Rdiv; ring].
    rewrite ln_div, !ln_softmax by apply softmax_pos. unfold softmax, log_total.
    fold A B. field. lra.
Qed.

Section Losses.

Variables (n : nat) (t : Z) (z v : list expr).
Let exps (x : list expr) (k : nat) : expr := expo (div (at_class x k) (int t)).
Let weighted (k : nat) : expr := mul (exps v k) (sub (at_class v k) (at_class z k)).

Definition kd_expr : expr :=
  add (mul (int t) (div (sum_of n weighted) (sum_of n (exps v))))
      (mul (mul (int t) (int t))
           (sub (loga (sum_of n (exps z))) (loga (sum_of n (exps v))))).

Definition sparse_expr (keep : nat -> bool) : expr :=
  let total_of := fun f => sum_of n f in
  let kept_of := fun f => sum_of n (fun k => if keep k then f k else int 0) in
  let rest_of := fun f => sum_of n (fun k => if keep k then int 0 else f k) in
  add (mul (int t) (div (kept_of weighted) (total_of (exps v))))
      (mul (mul (int t) (int t))
           (add (sub (loga (total_of (exps z))) (loga (total_of (exps v))))
                (mul (div (rest_of (exps v)) (total_of (exps v)))
                     (sub (loga (rest_of (exps v))) (loga (rest_of (exps z))))))).

(** The error of a component of the gradient, from intervals of the two sums. *)
Definition gradient_interval (g : list expr) (zs vs : I.type) (k : nat) : I.type :=
  let op := Bounds.binary_bnd precision in
  op Tree.Sub
    (op Tree.Mul (interval_of (int t))
       (op Tree.Sub (op Tree.Div (interval_of (exps z k)) zs)
          (op Tree.Div (interval_of (exps v k)) vs)))
    (interval_of (at_class g k)).

Let difference (k : nat) : expr := sub (at_class z k) (at_class v k).
Let count : expr := int (Z.of_nat (S n)).

Definition limit_expr : expr :=
  let mean := div (sum_of n difference) count in
  div (sub (div (sum_of n (fun k => mul (difference k) (difference k))) count)
           (mul mean mean)) (int 2).

Let student := logits (map value z).
Let teacher := logits (map value v).

Lemma exps_value x k :
  value (exps x k) = exp (logits (map value x) k / IZR t).
Proof. rewrite logits_value. reflexivity. Qed.

Lemma exps_total x :
  value (sum_of n (exps x)) = total n (fun k => exp (logits (map value x) k / IZR t)).
Proof. rewrite sum_of_value. apply total_ext; intros; apply exps_value. Qed.

Lemma kd_value : 0 < IZR t -> kd n (IZR t) student teacher = value kd_expr.
Proof.
  intros HT. rewrite kd_linear by exact HT.
  change (value kd_expr) with
    (IZR t * (value (sum_of n weighted) / value (sum_of n (exps v)))
     + IZR t * IZR t * (ln (value (sum_of n (exps z))) - ln (value (sum_of n (exps v))))).
  rewrite !exps_total, sum_of_value.
  replace (total n (fun k => value (weighted k)))
    with (total n (fun k => exp (teacher k / IZR t) * (teacher k - student k)));
    [reflexivity|].
  apply total_ext; intros k _. unfold teacher, student. rewrite !logits_value. reflexivity.
Qed.

Lemma sparse_value keep j :
  0 < IZR t -> (j <= n)%nat -> keep j = false ->
  sparse_kd n (IZR t) keep student teacher = value (sparse_expr keep).
Proof.
  intros HT Hj J. rewrite (sparse_kd_linear _ _ _ _ _ j HT Hj J).
  assert (R : forall x, total n (rest keep (fun k => exp (logits (map value x) k / IZR t)))
    = value (sum_of n (fun k => if keep k then int 0 else exps x k))).
  { intros x. rewrite sum_of_value. apply total_ext; intros k _. unfold rest.
    destruct (keep k); [reflexivity|symmetry; apply exps_value]. }
  assert (K : total n (kept keep (fun k =>
                exp (teacher k / IZR t) * (teacher k - student k)))
    = value (sum_of n (fun k => if keep k then weighted k else int 0))).
  { rewrite sum_of_value. apply total_ext; intros k _. unfold kept.
    destruct (keep k); [|reflexivity].
    unfold teacher, student. rewrite !logits_value. reflexivity. }
  rewrite K. unfold teacher, student. rewrite !R, <- !exps_total. reflexivity.
Qed.

Lemma gradient_interval_correct g k :
  holds (gradient_interval g (interval_of (sum_of n (exps z)))
           (interval_of (sum_of n (exps v))) k)
    (IZR t * (softmax n (IZR t) student k - softmax n (IZR t) teacher k)
     - logits (map value g) k).
Proof.
  unfold softmax, student, teacher. rewrite <- !exps_total, <- !exps_value, logits_value.
  unfold gradient_interval, holds.
  repeat apply Bounds.binary_bnd_correct; apply interval_of_correct.
Qed.

Lemma limit_value : variance n (fun k => student k - teacher k) / 2 = value limit_expr.
Proof.
  assert (D : forall k, student k - teacher k = value (difference k))
    by (intros k; unfold student, teacher; rewrite !logits_value; reflexivity).
  assert (N : classes n = IZR (Z.of_nat (S n)))
    by (unfold classes; apply INR_IZR_INZ).
  rewrite variance_moments. unfold mean. rewrite N.
  change (value limit_expr) with
    ((value (sum_of n (fun k => mul (difference k) (difference k)))
        / IZR (Z.of_nat (S n))
      - value (sum_of n difference) / IZR (Z.of_nat (S n))
        * (value (sum_of n difference) / IZR (Z.of_nat (S n)))) / 2).
  rewrite !sum_of_value.
  rewrite (total_ext n (fun k => (student k - teacher k) ^ 2)
    (fun k => value (mul (difference k) (difference k)))).
  - rewrite (total_ext n (fun k => student k - teacher k) (fun k => value (difference k)))
      by (intros; apply D).
    unfold Rdiv. ring.
  - intros k _. rewrite D. change (value (mul (difference k) (difference k)))
      with (value (difference k) * value (difference k)). ring.
Qed.

(** * What is left to compute *)

Lemma kd_near out eps :
  0 < IZR t -> near_zero eps (interval_of (sub kd_expr out)) = true ->
  Rabs (kd n (IZR t) student teacher - value out) <= value eps.
Proof.
  intros HT H. rewrite kd_value by exact HT.
  exact (near_zero_correct _ _ _ (interval_of_correct (sub kd_expr out)) H).
Qed.

Lemma sparse_near keep out eps :
  0 < IZR t ->
  (existsb (fun k => negb (classes_of keep k)) (seq 0 (S n))
   && near_zero eps (interval_of (sub (sparse_expr (classes_of keep)) out)))%bool = true ->
  Rabs (sparse_kd n (IZR t) (classes_of keep) student teacher - value out) <= value eps.
Proof.
  intros HT H. apply andb_true_iff in H. destruct H as [D H].
  apply existsb_exists in D. destruct D as [j [Hj J]].
  apply in_seq in Hj. apply negb_true_iff in J.
  rewrite (sparse_value (classes_of keep) j) by (assumption || lia).
  exact (near_zero_correct _ _ _
    (interval_of_correct (sub (sparse_expr (classes_of keep)) out)) H).
Qed.

Lemma limit_near out eps :
  near_zero eps (interval_of (sub limit_expr out)) = true ->
  Rabs (variance n (fun k => student k - teacher k) / 2 - value out) <= value eps.
Proof.
  intros H. rewrite limit_value.
  exact (near_zero_correct _ _ _ (interval_of_correct (sub limit_expr out)) H).
Qed.

Definition gradient_check (g : list expr) (eps : expr) : bool :=
  let zs := interval_of (sum_of n (exps z)) in
  let vs := interval_of (sum_of n (exps v)) in
  forallb (fun k => near_zero eps (gradient_interval g zs vs k)) (seq 0 (S n)).

Lemma gradient_near g eps :
  0 < IZR t -> gradient_check g eps = true ->
  gradient_within n (fun x => kd n (IZR t) x teacher) student (logits (map value g))
    (value eps).
Proof.
  intros HT H.
  exists (fun k => IZR t * (softmax n (IZR t) student k - softmax n (IZR t) teacher k)).
  split; [apply kd_gradient; lra|]. intros k Hk.
  apply (near_zero_correct _ _ _ (gradient_interval_correct g k)).
  unfold gradient_check in H. rewrite forallb_forall in H. apply H, in_seq. lia.
Qed.

End Losses.

(** * Tactics *)

(** The expression of a literal. *)
Ltac literal x :=
  lazymatch x with
  | IZR ?m => constr:(int m)
  | Q2R (QArith_base.Qmake ?a ?b) => constr:(div (int a) (int (Zpos b)))
  | - ?y => let e := literal y in constr:(Tree.Eunary Tree.Neg e)
  | ?y * ?y' => let e := literal y in let e' := literal y' in constr:(mul e e')
  | ?y / ?y' => let e := literal y in let e' := literal y' in constr:(div e e')
  end.

Ltac literals x :=
  lazymatch x with
  | nil => constr:(@nil expr)
  | ?y :: ?l => let e := literal y in let es := literals l in constr:(e :: es)
  end.

Ltac compute_bound :=
  vm_compute;
  lazymatch goal with
  | |- true = true => reflexivity
  | |- _ => fail "the computed interval is not within the bound"
  end.

Ltac value_bound :=
  lazymatch goal with
  | |- Rabs (kd ?n (IZR ?t) (logits ?z) (logits ?v) - ?out) <= ?eps =>
      let z := literals z in let v := literals v in
      let out := literal out in let eps := literal eps in
      apply (kd_near n t z v out eps); [lra | compute_bound]
  end.

Ltac sparse_bound :=
  lazymatch goal with
  | |- Rabs (sparse_kd ?n (IZR ?t) (classes_of ?keep) (logits ?z) (logits ?v) - ?out)
       <= ?eps =>
      let z := literals z in let v := literals v in
      let out := literal out in let eps := literal eps in
      apply (sparse_near n t z v keep out eps); [lra | compute_bound]
  end.

Ltac limit_bound :=
  lazymatch goal with
  | |- Rabs (variance ?n (fun k => logits ?z k - logits ?v k) / 2 - ?out) <= ?eps =>
      let z := literals z in let v := literals v in
      let out := literal out in let eps := literal eps in
      apply (limit_near n z v out eps); compute_bound
  end.

Ltac gradient_bound :=
  lazymatch goal with
  | |- gradient_within ?n (fun x => kd ?n (IZR ?t) x (logits ?v)) (logits ?z)
         (logits ?g) ?eps =>
      let z := literals z in let v := literals v in
      let g := literals g in let eps := literal eps in
      apply (gradient_near n t z v g eps); [lra | compute_bound]
  end.
