package discovery_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/discovery"
)

// Registrars fight over few instances, operators mark them, keys are deleted, and
// readers look on. In the end the last registrations stand, and no others.
func TestManyAtOnce(t *testing.T) {
	t.Run("without deletions", func(t *testing.T) { manyAtOnce(t, 3) })
	// What is deleted by hand lets an earlier registration in, for a moment.
	t.Run("with deletions", func(t *testing.T) { manyAtOnce(t, 4) })
}

// manyAtOnce does so many of the kinds of things that can be done.
func manyAtOnce(t *testing.T, kinds int) {
	t.Helper()
	const instances, turns = 4, 25
	service := etcd.Prefix(t)
	c := etcd.Client(t)
	var registrars []*discovery.Registrar
	for range 3 {
		registrars = append(registrars, registrar(t))
	}
	r := resolver(t)
	var readers, writers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		highest := map[string]core.Token{}
		for s, err := range r.Watch(within(t), service) {
			if err != nil {
				t.Error(err)
				return
			}
			for _, i := range s.Instances {
				if i.Token < highest[i.ID] && kinds < 4 {
					t.Errorf("%s: token %d after %d", i.ID, i.Token, highest[i.ID])
				}
				highest[i.ID] = i.Token
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for k, reg := range registrars {
		writers.Go(func() {
			for range turns {
				g, err := reg.Register(within(t), instance(service, rand.IntN(instances)))
				if err != nil {
					t.Error(err)
					return
				}
				switch rand.IntN(kinds) {
				case 0:
					_ = g.Deregister() // or it was superseded
				case 1:
					_ = g.Update(within(t), discovery.Instance{Addr: fmt.Sprintf("h:%d", k+1)})
				case 2:
					_ = discovery.Mark(within(t), c, "default", service, g.Instance().ID, discovery.Warning, "ada")
				case 3:
					del(t, keyOf(service, g.Instance().ID))
				}
			}
		})
	}
	writers.Wait()
	var last []*discovery.Registration
	for n := range instances {
		last = append(last, registered(t, registrars[n%3], instance(service, n)))
	}
	watching(t, r, service).until("the last ones", func(s *discovery.Snapshot) bool {
		for n, g := range last {
			if len(s.Instances) != instances || s.Instances[n].Token != g.Token() {
				return false
			}
		}
		return true
	})
	close(stop)
	del(t, keyOf(service, "i-0000")) // wakes the reader
	readers.Wait()
	for _, reg := range registrars {
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	}
	if s := resolved(t, resolver(t), service); len(s.Instances)+len(s.Others) != 0 {
		t.Errorf("after the end: %+v", s)
	}
}
