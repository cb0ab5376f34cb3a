package workqueue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/commit"
)

func TestBatchesGoBesideEachOther(t *testing.T) {
	for name, before := range map[string]int{"into an open segment": 1, "into one that the first is to open": segmentItems - 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.fill(before)
			sent := s.count()
			s.apart(func() { s.crowd(nil) }).Release()
			if unknown := s.done(); unknown > 0 || sent.Load() != 3 {
				t.Errorf("%d outcomes are unknown; %d requests were sent, want one for the first item and two for the crowd", unknown, sent.Load())
			}
		})
	}
}

// TestABatchThatIsPassed: others open segments while it is on its way.
func TestABatchThatIsPassed(t *testing.T) {
	for name, before := range map[string]int{"by its segment": 1, "by the one that it is to open": segmentItems - 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.fill(before)
			held := s.apart(func() { s.crowd(nil) })
			other, _ := writer(t, s.root)
			for range 3 {
				if _, err := other.Enqueue(within(t), slices.Repeat([]Put{plain("other")}, 2*segmentItems)); err != nil {
					t.Fatal(err)
				}
			}
			held.Release()
			if unknown := s.done(); unknown > 0 {
				t.Errorf("%d outcomes are unknown", unknown)
			}
			s.fill(1)
			if items := s.items(); items[len(items)-1] != "before" {
				t.Errorf("the item that was put last is delivered before %s", items[len(items)-1])
			}
		})
	}
}

// TestABatchInDoubt: what goes beside it is not in doubt, whichever of the two it is.
func TestABatchInDoubt(t *testing.T) {
	for _, before := range []int{1, segmentItems - 1} {
		for name, lose := range map[string]func(*coretest.Faults, coretest.Match, ...coretest.FaultOption) *coretest.Fault{
			"reply": (*coretest.Faults).LoseReply, "request": (*coretest.Faults).LoseRequest,
		} {
			t.Run(fmt.Sprintf("%s behind %d items", name, before), func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				s.fill(before)
				lone := s.faults.Hold(coretest.Puts("in/lane/"))
				s.enqueue(plain("lone"))
				if err := lone.Wait(within(t)); err != nil {
					t.Fatal(err)
				}
				every := 0
				s.crowd(func(p *Put) {
					if every++; every%2 == 0 {
						p.Dedup, p.Window = string(p.Record.Payload), patience
					}
				})
				lost := lose(s.faults, coretest.Puts("in/lane/"))
				lone.Release()
				unknown := s.done()
				if most := maxOps / 2; unknown == 0 || unknown > most || lost.Fired() != 1 {
					t.Errorf("%d outcomes are unknown, want at most the %d without a dedup key of one batch; %d were lost", unknown, most, lost.Fired())
				}
			})
		}
	}
}

// TestABatchInDoubtIsNotRepeatedAcrossARemoval: its dedup keys are forgotten. The
// other one tells of the removal before it is known that this one is in doubt.
func TestABatchInDoubtIsNotRepeatedAcrossARemoval(t *testing.T) {
	slow := newSlowReply(coretest.Puts("dedup/"))
	s := newStage(t, grpc.WithChainUnaryInterceptor(slow.intercept))
	t.Cleanup(slow.release)
	s.fill(1)
	held := s.apart(func() { s.crowd(func(p *Put) { p.Dedup, p.Window = string(p.Record.Payload), patience }) }, func() {
		s.faults.LoseReply(coretest.Puts("dedup/"))
		slow.armed.Store(true)
	})
	slow.wait(t)
	gone := s.items()
	if _, err := etcd.Client(t).Delete(within(t), s.root+"in/", clientv3.WithPrefix()); err != nil { // acked
		t.Fatal(err)
	}
	other, _ := writer(t, s.root)
	if err := AdminFor(other.e, s.root, s.w.names).Remove(within(t)); err != nil {
		t.Fatal(err)
	}
	held.Release()
	until(t, func() bool { return len(s.items()) > 0 }) // repeated behind the removal
	slow.release()
	s.all.Wait()
	there := s.items()
	for _, payload := range gone {
		if slices.Contains(there, payload) {
			t.Errorf("%s was put twice", payload)
		}
		if err := s.told[payload]; strings.HasPrefix(payload, "crowd") && !errors.Is(err, commit.ErrUnknown) {
			t.Errorf("the caller of %s was told: %v", payload, err)
		}
	}
}

// TestABoundThatComesBetween: the first batch is refused by it, and counted.
func TestABoundThatComesBetween(t *testing.T) {
	s := newStage(t)
	s.fill(1)
	held := s.apart(func() { s.crowd(nil) })
	other, _ := writer(t, s.root)
	p := plain("bounded")
	p.Capacity = 10 * crowd
	if _, err := other.Enqueue(within(t), []Put{p}); err != nil {
		t.Fatal(err)
	}
	held.Release()
	s.done()
	s.fill(1)
	items := len(s.items())
	if kvs := etcd.Dump(t, s.root+"fill"); len(kvs) != 1 || number(kvs[0].Value) < int64(items) {
		t.Errorf("there are %d items, and the count is %v", items, kvs)
	}
}

// TestOddNumbersOfSegments: of an older library, which wrote plain decimals, or by hand.
func TestOddNumbersOfSegments(t *testing.T) {
	for _, value := range []string{"7", "0007", "x", "", "00000000000x", "999999999998", "999999999999", "9999999999999", "9223372036854775807", "99999999999999999999", "000000000007\n"} {
		t.Run(fmt.Sprintf("%q", value), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			if _, err := s.w.e.Client().Put(within(t), s.root+"lane/7f", value); err != nil {
				t.Fatal(err)
			}
			sent := s.count()
			for range 3 {
				for range segmentRevisions {
					if _, err := s.w.e.Client().Put(within(t), "/other"+s.root, ""); err != nil {
						t.Fatal(err)
					}
				}
				s.fill(1)
			}
			if sent.Load() > 6 {
				t.Errorf("%d requests were sent for three items", sent.Load())
			}
		})
	}
}

// TestWhatOneAskedForKeepsItsOrder: it is placed in one batch after the other.
func TestWhatOneAskedForKeepsItsOrder(t *testing.T) {
	const many = crowd
	s := newStage(t)
	s.fill(1)
	var ops []clientv3.Op
	for i := range many {
		ops = append(ops, s.w.Ask(plain(fmt.Sprintf("asked-%03d", i))))
	}
	var kvs []*mvccpb.KeyValue
	for part := range slices.Chunk(ops, 100) {
		resp, err := s.w.e.Client().Txn(within(t)).Then(part...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range part {
			kvs = append(kvs, &mvccpb.KeyValue{Key: op.KeyBytes(), Value: op.ValueBytes(), ModRevision: resp.Header.Revision})
		}
	}
	held := s.faults.Hold(coretest.Puts("in/lane/"))
	placed := make(chan struct{})
	go func() { defer close(placed); s.w.placeAsked(within(t), kvs) }()
	if err := held.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	for range 3 { // time enough for a batch that should not go beside
		if n := len(s.items()); n > 1 {
			t.Fatalf("%d items were put beside the first batch", n-1)
		}
	}
	held.Release()
	<-placed
	if items := s.items(); !slices.IsSorted(items[1:]) || len(items) != many+1 {
		t.Errorf("%d items, in this order: %q", len(items), items)
	}
}

// TestManyWritersBesideEachOther: sessions enqueue in crowds and in long calls, with
// several priorities, while replies and requests are lost.
func TestManyWritersBesideEachOther(t *testing.T) {
	const sessions, producers, each, calls, long = 3, 100, 5, 3, 250
	s := newStage(t)
	lost := func(f *coretest.Faults) {
		match := func(method string, req any) bool { return coretest.Puts("in/lane/")(method, req) && rand.IntN(20) == 0 }
		f.LoseReply(match, coretest.Times(3))
		f.LoseRequest(match, coretest.Times(3))
	}
	tell := func(payload string, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told[payload] = err
	}
	for n := range sessions {
		w, faults := s.w, s.faults
		if n > 0 {
			w, faults = writer(t, s.root)
		}
		lost(faults)
		for p := range producers {
			s.all.Go(func() {
				for i := range each {
					p := plain(fmt.Sprintf("s%d-p%03d-%d", n, p, i))
					p.Record.Priority = i % 2
					_, err := w.Enqueue(within(t), []Put{p})
					tell(string(p.Record.Payload), err)
				}
			})
		}
		for c := range calls {
			s.all.Go(func() {
				var puts []Put
				for i := range long {
					puts = append(puts, plain(fmt.Sprintf("s%d-c%d-%04d", n, c, i)))
				}
				_, err := w.Enqueue(within(t), puts)
				for _, p := range puts {
					tell(string(p.Record.Payload), err) // the first one's
				}
			})
		}
	}
	s.all.Wait()
	last := make(map[string]string) // of each long call
	for _, payload := range s.items() {
		call, _, ok := strings.Cut(payload, "-0")
		if !ok || !strings.Contains(call, "c") {
			continue
		}
		if last[call] > payload {
			t.Errorf("%s is delivered behind %s", payload, last[call])
		}
		last[call] = payload
	}
	if len(last) != sessions*calls {
		t.Errorf("%d calls have put something, want %d", len(last), sessions*calls)
	}
	s.done()
}
