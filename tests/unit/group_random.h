static void group_random_add(TCase *t) { (void)t; }
