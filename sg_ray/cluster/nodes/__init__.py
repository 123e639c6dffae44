"""The machines of a cluster: what each is asked, which are not used, which are about to leave."""
