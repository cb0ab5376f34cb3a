package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/internal/upkeep"
)

func TestMain(m *testing.M) { coretest.Main(m, nil) }

// three are the configurations of members that found one cluster.
func three(t *testing.T) []embedded.Config {
	t.Helper()
	peers, cfgs := map[string]string{}, make([]embedded.Config, 3)
	for i := range cfgs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:gocritic // all ports are chosen before the first is given back
		cfgs[i] = embedded.Config{
			Name: fmt.Sprintf("m%d", i), DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: l.Addr().String(),
			InitialCluster: peers, Fast: true, NoFsync: true,
		}
		peers[cfgs[i].Name] = "http://" + l.Addr().String()
	}
	return cfgs
}

// cluster runs three members.
func cluster(ctx context.Context, t *testing.T) []*embedded.Member {
	t.Helper()
	cfgs := three(t)
	members, errs := make([]*embedded.Member, len(cfgs)), make(chan error, len(cfgs))
	for i, cfg := range cfgs {
		go func() {
			var err error
			members[i], err = embedded.Start(ctx, cfg)
			errs <- err
		}()
	}
	for range cfgs {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for _, m := range members {
		if m != nil {
			t.Cleanup(func() { _ = m.Close() })
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return members
}

func TestOneMemberAfterTheOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	members := cluster(ctx, t)
	c := members[0].Client()
	value := strings.Repeat("x", 1<<20)
	for range 8 {
		if _, err := c.Put(ctx, "k", value); err != nil {
			t.Fatal(err)
		}
	}
	var steps []string
	if err := upkeep.Recover(ctx, c, func(s string) { steps = append(steps, s) }); err != nil {
		t.Fatal(err)
	}
	all, err := upkeep.Look(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range all {
		if m.Err != nil || m.Size > 4<<20 || m.Leader != (i == 2) {
			t.Errorf("%d: %+v", i, m)
		}
	}
	if len(steps) != 4 || !strings.Contains(steps[3], all[2].Name) {
		t.Errorf("steps %q, want the leader %s last", steps, all[2].Name)
	}
}

// While a voter is down, another one that stalls would stop the cluster.
func TestNobodyStallsWhileAnotherIsDown(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	members := cluster(ctx, t)
	if err := members[2].Close(); err != nil {
		t.Fatal(err)
	}
	c := members[0].Client()
	all, err := upkeep.Look(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if _, err := upkeep.Defragment(ctx, c, m); !errors.Is(err, upkeep.ErrDown) {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}
