package core_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclavehq/conclave/core"
)

// The tests of this file run on a fake clock, against a server that ends leases
// to the instant: on a real one "before the server does" cannot be measured.

func TestSessionLivesAsLongAsRenewalsAreAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server leaseServer
		s := open(t, server.dial(t))
		for range 100 {
			time.Sleep(7 * time.Second)
			if s.Context().Err() != nil || s.State() != core.Active || !server.alive(s.Lease()) {
				t.Fatalf("state %v, cause %v", s.State(), context.Cause(s.Context()))
			}
		}
		if n := server.renewals(); n < 130 || n > 170 {
			t.Errorf("%d renewals in 700 s at a TTL of 15 s, want one every 4.5 s to 5 s", n)
		}
	})
}

func TestValidityCountsFromTheSendingOfTheLastAcknowledgedRenewal(t *testing.T) {
	for _, c := range []struct {
		ttl, margin time.Duration
	}{{5 * time.Second, time.Second}, {15 * time.Second, 1500 * time.Millisecond}, {time.Minute, 6 * time.Second}} {
		t.Run(c.ttl.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var server leaseServer
				client := server.dial(t)
				opened := time.Now()
				s := open(t, client, core.WithTTL(c.ttl))
				if got := s.Remaining(); got > c.ttl-c.margin || got <= 0 {
					t.Errorf("remaining at the start %v, want at most %v", got, c.ttl-c.margin)
				}
				// Every renewal takes a second each way; replies are lost from the third on.
				sent := []time.Time{}
				server.set(func() trip {
					sent = append(sent, time.Now())
					return trip{there: 100 * time.Millisecond, back: time.Second, loseBack: len(sent) > 2}
				})
				<-s.Context().Done()
				if cause := context.Cause(s.Context()); !errors.Is(cause, core.ErrSessionExpired) {
					t.Errorf("cause %v", cause)
				}
				valid := sent[1].Add(c.ttl - c.margin)
				if late := time.Since(valid); late < 0 || late > 10*time.Millisecond {
					t.Errorf("ended %v after the last acknowledged renewal was sent, want %v (opened %v before)",
						time.Since(sent[1]), c.ttl-c.margin, time.Since(opened))
				}
				if s.State() != core.Expired || s.Remaining() != 0 {
					t.Errorf("state %v, remaining %v", s.State(), s.Remaining())
				}
			})
		})
	}
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server leaseServer
		s := open(t, server.dial(t), core.WithTTL(20*time.Second))
		server.set(func() trip { return trip{loseThere: true} })
		for _, step := range []struct {
			after time.Duration
			want  core.SessionState
		}{{9900 * time.Millisecond, core.Active}, {200 * time.Millisecond, core.Suspect}, {7800 * time.Millisecond, core.Suspect}, {200 * time.Millisecond, core.Expired}} {
			time.Sleep(step.after)
			if got := s.State(); got != step.want {
				t.Errorf("%v later: %v, want %v", step.after, got, step.want)
			}
		}
		if fmt.Sprint(core.Active, core.Suspect, core.Expired) != "active suspect expired" {
			t.Error("names of the states")
		}
	})
}

func TestSuspectSessionRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server leaseServer
		s := open(t, server.dial(t), core.WithTTL(20*time.Second))
		server.set(func() trip { return trip{loseBack: true} })
		time.Sleep(11 * time.Second)
		if s.State() != core.Suspect {
			t.Fatalf("state %v", s.State())
		}
		server.set(smooth)
		time.Sleep(7 * time.Second) // one try ends, the next is acknowledged
		if s.State() != core.Active || s.Context().Err() != nil {
			t.Errorf("state %v, cause %v", s.State(), context.Cause(s.Context()))
		}
	})
}

func TestLateAcknowledgementDoesNotRevive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server leaseServer
		s := open(t, server.dial(t), core.WithTTL(5*time.Second))
		var beats int
		s.OnRenewal(func(time.Duration) { beats++ })
		// The first reply is lost. The second renewal is sent before the lapse and
		// acknowledged after it.
		sent := 0
		server.set(func() trip { sent++; return trip{loseBack: sent == 1, back: 900 * time.Millisecond} })
		time.Sleep(4500 * time.Millisecond)
		if !server.alive(s.Lease()) {
			t.Fatal("the server did not renew: the test shows nothing")
		}
		server.set(smooth)
		time.Sleep(time.Minute)
		if !errors.Is(context.Cause(s.Context()), core.ErrSessionExpired) || s.State() != core.Expired {
			t.Errorf("state %v, cause %v", s.State(), context.Cause(s.Context()))
		}
		if beats != 1 {
			t.Errorf("%d beats, want the first one only", beats)
		}
		if err := s.Close(); !errors.Is(err, core.ErrSessionExpired) {
			t.Errorf("Close: %v", err)
		}
	})
}

// A process that was paused looks at the clock before its timers do.
func TestUnnoticedLapseIsALossForClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server leaseServer
		s := open(t, server.dial(t), core.WithTTL(5*time.Second))
		server.set(func() trip { return trip{loseThere: true} })
		time.Sleep(4 * time.Second) // this goroutine and the session's wake at one instant
		if err := s.Close(); !errors.Is(err, core.ErrSessionExpired) {
			t.Errorf("Close at the lapse: %v", err)
		}
		if cause := context.Cause(s.Context()); !errors.Is(cause, core.ErrSessionExpired) {
			t.Errorf("cause %v", cause)
		}
		if s.Engine().Context().Err() == nil {
			t.Error("the engine goes on")
		}
	})
}

func TestExpiryEndsTheEngineWithoutClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server leaseServer
		s := open(t, server.dial(t))
		work := make(chan error, 1)
		if !s.Engine().Enter() {
			t.Fatal("the engine takes no work")
		}
		s.Engine().Go(func(ctx context.Context) {
			<-ctx.Done()
			work <- context.Cause(s.Context())
		})
		s.Engine().Leave()
		server.set(func() trip { return trip{loseThere: true} })
		if cause := <-work; !errors.Is(cause, core.ErrSessionExpired) {
			t.Errorf("background work ended with %v", cause)
		}
	})
}

func TestCloseFlushesWhatTheEngineHasUnderWay(t *testing.T) {
	// The end of the context and the next look of the renewal loop race.
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			var server leaseServer
			s := open(t, server.dial(t))
			if !s.Engine().Enter() {
				t.Fatal("the engine takes no work")
			}
			flushed := false
			s.Engine().Go(func(ctx context.Context) {
				<-s.Context().Done()
				flushed = pause(ctx, 900*time.Millisecond)
			})
			s.Engine().Leave()
			time.Sleep(time.Second) // when the loop looks
			if err := s.Close(); err != nil || !flushed {
				t.Fatalf("Close: %v, flushed %t", err, flushed)
			}
		})
	}
}

func TestCloseGivesUpWhenTheLeaseHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leaseServer{deaf: true}
		s := open(t, server.dial(t))
		begun := time.Now()
		if err := s.Close(); !errors.Is(err, core.ErrUnknownOutcome) {
			t.Errorf("Close: %v, want ErrUnknownOutcome", err)
		}
		if took := time.Since(begun); took > s.TTL() {
			t.Errorf("Close took %v, longer than the TTL", took)
		}
		if server.alive(s.Lease()) {
			t.Error("Close gave up while the lease stands")
		}
	})
}

func TestNeverValidLongerThanTheLease(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 30
	}
	expired := 0
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			server := leaseServer{travel: rough(rand.New(rand.NewPCG(uint64(seed), 2)))}
			ttl := time.Duration(5+r.IntN(20)) * time.Second
			s := open(t, server.dial(t), core.WithTTL(ttl))
			blocked, woken := s.Context().Done(), false
			for range 2000 {
				time.Sleep(97 * time.Millisecond)
				if r.IntN(200) == 0 {
					server.refill()
				}
				select {
				case <-blocked:
					woken = true
				default:
				}
				alive := server.alive(s.Lease())
				if !alive && (s.Context().Err() == nil || !woken) {
					t.Fatalf("seed %d: etcd has ended the lease, and the session believes in it: %v, woken %t", seed, s.State(), woken)
				}
				if s.Context().Err() != nil {
					expired++
					return
				}
			}
		})
	}
	if expired == 0 || expired == seeds {
		t.Errorf("%d of %d sessions expired: the network is too smooth or too rough to show anything", expired, seeds)
	}
}

func TestTTLThatTheServerChangesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leaseServer{quirk: 5 * time.Second}
		c := server.dial(t)
		_, err := core.NewSession(t.Context(), c, core.WithTTL(10*time.Second))
		if !errors.Is(err, core.ErrInvalid) {
			t.Errorf("error %v, want ErrInvalid", err)
		}
		if server.alive(1) {
			t.Error("the lease was left behind")
		}
	})
}

func TestFloorOfTheTTLCountsVoters(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []*pb.Member
		floor   time.Duration
	}{
		{"one", []*pb.Member{{}}, 5 * time.Second},
		{"one and learners", []*pb.Member{{}, {IsLearner: true}, {IsLearner: true}}, 5 * time.Second},
		{"three", []*pb.Member{{}, {}, {}}, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := leaseServer{members: c.members}
				client := server.dial(t)
				if _, err := core.NewSession(t.Context(), client, core.WithTTL(c.floor-time.Second)); !errors.Is(err, core.ErrInvalid) {
					t.Errorf("below the floor: %v", err)
				}
				if server.alive(1) {
					t.Error("a lease was granted")
				}
				open(t, client, core.WithTTL(c.floor))
			})
		})
	}
}
