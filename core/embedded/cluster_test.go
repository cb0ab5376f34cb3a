package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/embedded"
)

// cluster returns the configurations of n members that found one cluster.
func cluster(t *testing.T, n int) []embedded.Config {
	t.Helper()
	peers, cfgs := map[string]string{}, make([]embedded.Config, n)
	for i := range cfgs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:gocritic // all ports are chosen before the first is given back
		cfgs[i] = config(t.TempDir())
		cfgs[i].Name, cfgs[i].PeerAddr, cfgs[i].InitialCluster = fmt.Sprintf("m%d", i), l.Addr().String(), peers
		peers[cfgs[i].Name] = "http://" + l.Addr().String()
	}
	return cfgs
}

func startAll(t *testing.T, cfgs []embedded.Config) []*embedded.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	members, errs := make([]*embedded.Member, len(cfgs)), make(chan error, len(cfgs))
	for i, cfg := range cfgs {
		go func() {
			m, err := embedded.Start(ctx, cfg)
			members[i] = m
			errs <- err
		}()
	}
	var all error
	for range cfgs {
		all = errors.Join(all, <-errs)
	}
	for _, m := range members {
		if m != nil {
			t.Cleanup(func() { closeSoon(t, m) })
		}
	}
	if all != nil {
		t.Fatal(all)
	}
	return members
}

func TestStartWithoutQuorumEndsWithItsContext(t *testing.T) {
	cfg := cluster(t, 3)[0]
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := embedded.Start(ctx, cfg)
	if !errors.Is(err, embedded.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want no quorum and the deadline", err)
	}
	if took := time.Since(begin); took > stopBound {
		t.Errorf("Start ended %v after its context", took)
	}
	// Nothing is left behind: the directory and the ports can be taken again, now by a whole cluster.
	_, err = embedded.Start(ctx, cfg)
	if errors.Is(err, embedded.ErrDataDirInUse) || errors.Is(err, embedded.ErrPortInUse) {
		t.Errorf("after a failed start: %v", err)
	}
}

func TestClusterServesAndStopsWithAndWithoutQuorum(t *testing.T) {
	members := startAll(t, cluster(t, 3))
	if _, err := members[0].Client().Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	got, err := members[2].Client().Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("another member: %v, %v", got, err)
	}
	closeSoon(t, members[0])
	if _, err := members[1].Client().Put(t.Context(), "k", "two of three"); err != nil {
		t.Errorf("two of three: %v", err)
	}
	closeSoon(t, members[1])
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := members[2].Client().Put(ctx, "k", "alone"); err == nil {
		t.Error("one of three acknowledged a write")
	}
	closeSoon(t, members[2])
}

// A leader whose followers vanish at once would wait five seconds for somebody to hand over to.
func TestEveryMemberStopsAtOnce(t *testing.T) {
	members := startAll(t, cluster(t, 3))
	done := make(chan struct{})
	for _, m := range members {
		go func() {
			closeSoon(t, m)
			done <- struct{}{}
		}()
	}
	for range members {
		<-done
	}
}

func TestRemovedMemberEndsWithAReason(t *testing.T) {
	cfgs := cluster(t, 3)
	members := startAll(t, cfgs)
	list, err := members[0].Client().MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var id uint64
	for _, m := range list.Members {
		if m.Name == "m2" {
			id = m.ID
		}
	}
	remove(t, members[0].Client(), id)
	select {
	case <-members[2].Done():
	case <-time.After(time.Minute):
		t.Fatal("a removed member goes on")
	}
	if err := members[2].Err(); !errors.Is(err, embedded.ErrStopped) || !errors.Is(err, embedded.ErrRemoved) {
		t.Errorf("reason %v", err)
	}
	if err := members[2].Close(); !errors.Is(err, embedded.ErrStopped) {
		t.Errorf("close afterwards: %v, want the retained reason", err)
	}
	refuse(t, cfgs[2], embedded.ErrRemoved)
	cfgs[1].DataDir = t.TempDir()
	closeSoon(t, members[1])
	refuse(t, cfgs[1], embedded.ErrMemberExists, "its data are not here")
}

// remove repeats until it works: etcd refuses in the first five seconds of a connection between members.
func remove(t *testing.T, c *clientv3.Client, id uint64) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.MemberRemove(t.Context(), id)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}
