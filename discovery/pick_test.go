package discovery_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/conclavehq/conclave/discovery"
)

// five instances: weights 1 to 5, zones a and b, of two versions.
func five(tb testing.TB) (*discovery.Resolver, string) {
	tb.Helper()
	service := etcd.Prefix(tb)
	r := registrar(tb)
	for n := range 5 {
		i := instance(service, n)
		i.Weight, i.Zone, i.Version = n+1, string(rune('a'+n%2)), fmt.Sprint(n/3)
		i.Tags, i.Metadata = []string{"t" + i.Version}, map[string]string{"m": i.Version}
		registered(tb, r, i)
	}
	return resolver(tb), service
}

func picked(tb testing.TB, s *discovery.Snapshot, n int, opts ...discovery.PickOption) map[string]int {
	tb.Helper()
	counts := map[string]int{}
	for range n {
		counts[must[discovery.Instance](tb)(s.Pick(opts...)).ID]++
	}
	return counts
}

func TestPick(t *testing.T) {
	r, service := five(t)
	s := resolved(t, r, service)
	for id, n := range picked(t, s, 500) {
		if n != 100 {
			t.Errorf("round robin: %s %d times of 500", id, n)
		}
	}
	if all := picked(t, s, 500, discovery.Random()); len(all) != 5 {
		t.Errorf("random: %v", all)
	}
	w := picked(t, s, 15_000, discovery.Weighted())
	for n := range 5 {
		if got, want := w[fmt.Sprintf("i-%04d", n)], 1000*(n+1); got < want*8/10 || got > want*12/10 {
			t.Errorf("weighted: %d picked %d times, want about %d", n, got, want)
		}
	}
	if all := picked(t, s, 100, discovery.PreferZone("b"), discovery.Random()); all["i-0001"]+all["i-0003"] != 100 {
		t.Errorf("zone b: %v", all)
	}
	if all := picked(t, s, 100, discovery.PreferZone("nowhere")); len(all) != 5 {
		t.Errorf("a zone without instances: %v", all)
	}
	for _, o := range []discovery.PickOption{discovery.WithVersion("1"), discovery.WithTag("t1"), discovery.WithMetadata("m", "1")} {
		if all := picked(t, s, 100, o); all["i-0003"]+all["i-0004"] != 100 || len(all) != 2 {
			t.Errorf("version 1: %v", all)
		}
	}
	if all := picked(t, s, 100, discovery.Not("i-0000")); len(all) != 4 || all["i-0000"] != 0 {
		t.Errorf("not the first: %v", all)
	}
	_, err := s.Pick(discovery.WithVersion("9"), discovery.PreferZone("a"))
	isAll(t, err, discovery.ErrNoInstance)
}

func TestPickTheLessBusy(t *testing.T) {
	r, service := five(t)
	s := resolved(t, r, service)
	busy := s.Use("i-0004")
	for range 100 { // never done
		_ = s.Use("i-0004")
	}
	if all := picked(t, s, 1000, discovery.LeastOfTwo()); all["i-0004"] != 0 {
		t.Errorf("the busy one was picked: %v", all)
	}
	busy(nil)
}

func TestStickyAndRendezvous(t *testing.T) {
	r, service := five(t)
	s, other := resolved(t, r, service), resolved(t, resolver(t), service)
	moved := 0
	for k := range 1000 {
		key := fmt.Sprint(k)
		first := must[discovery.Instance](t)(s.Pick(discovery.Sticky(key)))
		if again := must[discovery.Instance](t)(s.Pick(discovery.Sticky(key))); again.ID != first.ID {
			t.Errorf("sticky %s: %s, then %s", key, first.ID, again.ID)
		}
		if next := must[discovery.Instance](t)(s.Pick(discovery.Sticky(key), discovery.Not(first.ID))); next.ID == first.ID {
			t.Errorf("sticky %s: stuck", key)
		}
		here := must[discovery.Instance](t)(s.Pick(discovery.Rendezvous(key)))
		if there := must[discovery.Instance](t)(other.Pick(discovery.Rendezvous(key))); there.ID != here.ID {
			t.Errorf("rendezvous %s: %s here, %s there", key, here.ID, there.ID)
		}
		// Without one instance only its own keys move.
		rest := must[discovery.Instance](t)(s.Pick(discovery.Rendezvous(key), discovery.Not("i-0002")))
		if rest.ID != here.ID {
			moved++
			if here.ID != "i-0002" {
				t.Errorf("rendezvous %s moved from %s to %s", key, here.ID, rest.ID)
			}
		}
	}
	if moved < 120 || moved > 280 { // weight 3 of 15: 200
		t.Errorf("%d of 1000 keys were the third one's", moved)
	}
}

func TestFailingInstancesAreLeftOut(t *testing.T) {
	r, service := five(t)
	s := resolved(t, r, service)
	broken := errors.New("refused")
	for range 4 {
		s.Report("i-0000", broken)
	}
	if all := picked(t, s, 100); len(all) != 5 {
		t.Errorf("after 4 failures: %v", all)
	}
	s.Report("i-0000", broken)
	if all := picked(t, s, 100); len(all) != 4 || all["i-0000"] != 0 {
		t.Errorf("after 5 failures: %v", all)
	}
	s.Report("i-0000", nil)
	if all := picked(t, s, 100); len(all) != 5 {
		t.Errorf("after a success: %v", all)
	}
	for _, i := range s.Instances {
		for range 5 {
			s.Use(i.ID)(broken)
		}
	}
	if all := picked(t, s, 100); len(all) != 5 {
		t.Errorf("all fail: %v", all)
	}
}

// measuredRuns are so many that what etcd allocates beside them, in the same process,
// is less than one each.
const measuredRuns = 20_000

func TestPickIsFree(t *testing.T) {
	r, service := five(t)
	s := resolved(t, r, service)
	s.Report("i-0000", errors.New("x"))
	for name, opts := range map[string][]discovery.PickOption{
		"round robin": nil, "random": {discovery.Random()}, "weighted": {discovery.Weighted(), discovery.PreferZone("a")},
		"least of two": {discovery.LeastOfTwo()}, "rendezvous": {discovery.Rendezvous("k")}, "sticky": {discovery.Sticky("k")},
	} {
		if n := testing.AllocsPerRun(measuredRuns, func() { _, _ = s.Pick(opts...) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
