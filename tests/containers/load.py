"""A steady load of invocations, in closed loop, that counts what is not answered as asked."""

import threading


class Load:
    """A context manager: invokes from entry to exit."""

    def __init__(self, cluster, models, body, n_clients=4):
        self.cluster, self.models, self.body = cluster, models, body
        self.failed, self.n_answered = [], 0
        self.lock, self.is_over = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(n_clients)]

    def client(self, first):
        turn = first
        while not self.is_over.is_set():
            model = self.models[turn % len(self.models)]
            turn += 1
            try:
                status, _, text = self.cluster.invoke(model, self.body)
            except OSError as error:
                status, text = None, repr(error)
            with self.lock:
                self.n_answered += 1
                if status != 200:
                    self.failed.append((model, status, text[:300]))

    def wait_for(self, n_more):
        """Returns once that many more were answered."""
        from cluster import wait_until
        goal = self.n_answered + n_more
        wait_until(f"{n_more} more answers", lambda: self.n_answered >= goal)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join(timeout=90)
