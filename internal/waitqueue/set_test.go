package waitqueue

import (
	"errors"
	"testing"
)

// One ticket of a set is deleted by hand while the reply to its entry is lost,
// and the entry is repeated. The set learns that it is out of line also when
// its watch did not tell, and takes all its tickets with it.
func TestSetThatLostATicketEntersAgain(t *testing.T) {
	for i, which := range []string{"first", "last"} {
		t.Run(which, func(t *testing.T) {
			prefix := etcd.Prefix(t)
			names := []string{prefix + "-1", prefix + "-2"}
			other, _ := open(t)
			owner := acquired(t, other, exclusive(names[0]))
			q, _ := open(t)
			a := entered(t, q, names)
			if _, err := etcd.Client(t).Delete(bounded(t), a.parts[i].ticket); err != nil {
				t.Fatal(err)
			}
			r, err := q.e.Do(bounded(t), a.enterTxn())
			if err != nil {
				t.Fatal(err)
			}
			if _, inLine, err := a.readEntered(r); !inLine {
				if !errors.Is(err, errGone) {
					t.Errorf("entered again: %v, want that it is out of line", err)
				}
			} else if v, err := a.look(bounded(t)); err != nil || !v.gone {
				t.Errorf("look: gone %v, error %v, want that it is out of line", v.gone, err)
			}
			a.uncertain, a.entered = true, true
			if a.withdraw(bounded(t)) != nil {
				t.Fatal("it owns")
			}
			a.end()
			released(t, owner)
			cleanedUp(t, names[0])
			cleanedUp(t, names[1])
		})
	}
}

// entered is a set that waits in the line of each of its names.
func entered(t *testing.T, q *Queue, all []string) *acquisition {
	t.Helper()
	r := exclusive(all[0])
	r.Mode, r.Names = Set, all
	var names []*name
	for _, n := range all {
		names = append(names, q.use(n))
	}
	a := q.newAcquisition(r, names)
	if _, err := a.enter(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		tickets(t, n, 1)
	}
	return a
}
