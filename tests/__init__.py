"""The tests: one file per behaviour, on real databases."""

import freezegun

# psycopg before 3.3 compares times of two clocks, of which a frozen one does not advance.
freezegun.configure(extend_ignore_list=["psycopg", "psycopg_binary"])
