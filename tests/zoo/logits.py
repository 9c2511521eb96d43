from zoo._case import Case

CASES: tuple[Case, ...] = ()
