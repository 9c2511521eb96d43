"""When does holistic distillation pay? Students of one recorded teacher.

``python -m experiments.holistic`` measures them, and shows the stored numbers.

Hypotheses, before the measurement:

1. With all labels, relations alone (HKD) carry nearly what soft targets (KD) carry, and
   their sum carries no more than KD with the same weights of labels and soft targets.
2. Relations need no labels, but neither do soft targets, which say more about the
   classes. With few labels, both are far ahead of the student alone, and HKD adds
   nothing to KD; HKD without KD is behind, most of all with 10 labels.
3. With wrong labels, the same: KD and HKD correct them, and their sum is KD.
4. Relations are about embeddings. Recall@1 of the embeddings, and a linear classifier
   for classes that no network was trained on, gain from HKD and PKT over KD, even
   where the accuracy does not.
"""
