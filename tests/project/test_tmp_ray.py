import time
def test_x(ray_session, devign_dir, roberta_tokenizer_dir):
    import ray
    @ray.remote
    def f(): 
        import os
        return os.environ.get("OMP_NUM_THREADS"), os.environ.get("RAY_AUTH_MODE")
    print(ray.get(f.remote()), devign_dir, roberta_tokenizer_dir)
