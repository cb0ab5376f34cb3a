package lock_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/lock"
)

func TestList(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	s, other := session(t, "holder", ns), session(t, "waiter", ns)
	ctx := testContext(t)
	held := locked(t, s, "jobs/1", lock.WithPurpose("import"))
	defer func() { _ = held.Unlock() }()
	waits := make(chan error, 1)
	go func() {
		h, err := lock.NewMutex(other, "jobs/1").Lock(ctx)
		if err == nil {
			err = h.Unlock()
		}
		waits <- err
	}()
	permit, err := lock.NewSemaphore(s, "a sem", 5).Acquire(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = permit.Release() }()
	var resp *lockv1.ListResponse
	eventually(t, "the waiter is listed", func() bool {
		if resp, err = h.List(ctx, &lockv1.ListRequest{Namespace: ns}); err != nil {
			t.Fatal(err)
		}
		return len(resp.GetLocks()) == 2 && resp.GetLocks()[1].GetWaiters() == 1
	})
	sem, jobs := resp.GetLocks()[0], resp.GetLocks()[1]
	if sem.GetName() != "a sem" || sem.GetKind() != "permits" || sem.GetLimit() != 5 || sem.GetTaken() != 3 || sem.GetToken() != int64(permit.Token()) {
		t.Errorf("the semaphore is listed as %v", sem)
	}
	if jobs.GetName() != "jobs/1" || jobs.GetKind() != "write" || jobs.GetOwner() != "holder" || jobs.GetToken() != int64(held.Token()) ||
		jobs.GetPurpose() != "import" || jobs.GetSince() == nil || jobs.GetHolderCount() != 1 {
		t.Errorf("the lock is listed as %v", jobs)
	}
	if ttl := jobs.GetTtl().AsDuration(); ttl <= 0 || ttl > s.TTL() {
		t.Errorf("ttl is %v of %v", ttl, s.TTL())
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Fatal(err)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	s, ctx := session(t, "holder", ns), testContext(t)
	for i := range 25 {
		locked(t, s, fmt.Sprintf("page/%02d", i))
	}
	locked(t, s, "other")
	var names []string
	req := &lockv1.ListRequest{Namespace: ns, Prefix: "pa", PageSize: 10}
	for pages := 1; ; pages++ {
		resp, err := h.List(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range resp.GetLocks() {
			names = append(names, l.GetName())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	if len(names) != 25 || names[0] != "page/00" || names[24] != "page/24" {
		t.Errorf("listed %q", names)
	}
	_, err := h.List(ctx, &lockv1.ListRequest{Namespace: ns, PageToken: "%%%"})
	want(t, err, codes.InvalidArgument, "invalid_page_token")
	_, err = h.List(ctx, &lockv1.ListRequest{Namespace: ns, PageSize: -1})
	want(t, err, codes.InvalidArgument, "invalid_page_size")
}
