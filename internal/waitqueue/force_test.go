package waitqueue

import (
	"fmt"
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
)

// Before an operator takes a name away, its owner lets go by itself, or another
// operator is quicker: that is no error, whoever owns next.
func TestTakenAwayMeanwhile(t *testing.T) {
	meanwhile := map[string]func(t *testing.T, o *Owned){
		"another operator": func(t *testing.T, o *Owned) { endings[0].by(t, o) },
		"its owner":        func(t *testing.T, o *Owned) { released(t, o) },
	}
	for mode, r := range map[string]*Request{"exclusive": exclusive(""), "permits": permits("", 2)} {
		for who, takes := range meanwhile {
			for _, transfer := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, by %s, transfer %v", mode, who, transfer), func(t *testing.T) {
					t.Parallel()
					name, first, next := etcd.Prefix(t), *r, *r
					first.Names, next.Names = []string{name}, []string{name}
					q, _ := open(t)
					o := unwatched(t, q, &first)
					other, _ := open(t)
					waits := background(t, bounded(t), other, &next)
					heir := waiterOf(t, other, name, next.Permits)
					operator, faults := open(t)
					hold := faults.Hold(coretest.All(coretest.Reads("/"+shadowPart), coretest.Reads("/"+linePart)))
					defer hold.Release()
					done := make(chan error, 1)
					go func() {
						var err error
						if transfer {
							err = operator.Transfer(bounded(t), name, "", heir)
						} else {
							_, err = operator.Force(bounded(t), name, "testing")
						}
						done <- err
					}()
					if err := hold.Wait(bounded(t)); err != nil {
						t.Fatal(err)
					}
					takes(t, o)
					hold.Release()
					if err := <-done; err != nil {
						t.Error(err)
					}
					released(t, served(t, waits))
					_ = o.Release()
					cleanedUp(t, name)
				})
			}
		}
	}
}
