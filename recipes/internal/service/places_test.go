package service

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclavehq/conclave/core"
)

type place core.Token

func (p place) Token() core.Token { return core.Token(p) }

// An owned counts what was detached.
type owned struct {
	token    core.Token
	lost     bool
	detached *atomic.Int64
}

func (o *owned) Token() core.Token { return o.token }

func (o *owned) Release() error { return nil }

func (o *owned) Detach() (place, error) {
	o.detached.Add(1)
	if o.lost {
		return 0, errors.New("lost")
	}
	return place(o.token), nil
}

func at(name string) PlaceKey { return PlaceKey{Lease: 1, Name: name} }

// run runs places for a test, in its bubble.
func run(p *Places[place]) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestPlacesBecomePlainWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, detached := NewPlaces[place](Freshness{For: time.Second}), new(atomic.Int64)
		stop := run(p)
		p.Put(at("a"), &owned{token: 1, detached: detached})
		p.Put(at("b"), &owned{token: 2, detached: detached, lost: true})
		time.Sleep(900 * time.Millisecond)
		p.Put(at("c"), &owned{token: 3, detached: detached})
		if held, _ := p.Take(at("a"), 2); held != nil {
			t.Error("another token is found")
		}
		if held, _ := p.Get(at("a"), 1); held == nil {
			t.Error("what is fresh is not found")
		}
		time.Sleep(700 * time.Millisecond)
		if held, place := p.Take(at("a"), 1); held != nil || place != 1 {
			t.Errorf("after its time it is %v, %v", held, place)
		}
		if held, place := p.Take(at("b"), 2); held != nil || place != 0 {
			t.Errorf("what was lost is %v, %v", held, place)
		}
		if held, _ := p.Take(at("c"), 3); held == nil || detached.Load() != 2 {
			t.Errorf("what came later is %v, %d are plain", held, detached.Load())
		}
		p.Put(at("d"), &owned{token: 4, detached: detached})
		stop()
		if _, place := p.Get(at("d"), 4); place != 4 {
			t.Error("at the end it is not plain")
		}
		p.Take(at("d"), 4)
		if len(p.all) != 0 || p.fresh != 0 || p.oldest != nil || p.newest != nil {
			t.Errorf("%d are left", len(p.all))
		}
	})
}

func TestPlacesBecomePlainWithNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, detached := NewPlaces[place](Freshness{Most: 2}), new(atomic.Int64)
		defer run(p)()
		for k, name := range []string{"a", "b", "c", "d"} {
			p.Put(at(name), &owned{token: core.Token(k + 1), detached: detached})
		}
		p.Put(at("c"), &owned{token: 7, detached: detached}) // a later one of the same session
		time.Sleep(time.Hour)
		for k, name := range []string{"a", "b"} {
			if held, place := p.Get(at(name), core.Token(k+1)); held != nil || place == 0 {
				t.Errorf("%s is %v, %v", name, held, place)
			}
		}
		if held, _ := p.Get(at("c"), 3); held != nil {
			t.Error("the earlier one is found")
		}
		for name, token := range map[string]core.Token{"c": 7, "d": 4} {
			if held, _ := p.Get(at(name), token); held == nil {
				t.Errorf("%s is not fresh", name)
			}
		}
	})
}

// Only the only call of a session may give back what nobody was told of.
func TestPlacesCountCalls(t *testing.T) {
	p := NewPlaces[place](Freshness{})
	p.Enter(at("a"))
	if !p.Only(at("a"), 1) {
		t.Error("one call is not the only one")
	}
	p.Enter(at("a"))
	if p.Only(at("a"), 1) {
		t.Error("one of two calls is the only one")
	}
	p.Leave(at("a"))
	p.Put(at("a"), &owned{token: 1})
	if p.Only(at("a"), 1) || !p.Only(at("a"), 2) {
		t.Error("it does not know what a caller was told")
	}
	p.Leave(at("a"))
	p.Take(at("a"), 1)
	if len(p.all) != 0 {
		t.Error("something is left")
	}
}
