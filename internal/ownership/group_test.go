package ownership_test

import (
	"context"
	"errors"
	"testing"

	"github.com/conclavehq/conclave/internal/ownership"
)

func TestGroupEndsWhatIsInIt(t *testing.T) {
	t.Parallel()
	over := errors.New("over")
	var g ownership.Group
	lapsed := func() error { return over }
	all := make([]*ownership.Context, 5)
	for i := range all {
		all[i] = ownership.NewContext(context.Background(), lapsed)
		g.Add(all[i])
	}
	for _, i := range []int{4, 2, 2, 0} { // the first, one between, again, the last
		g.Remove(all[i])
	}
	g.End()
	for i, c := range all {
		in := i == 1 || i == 3
		if ended := context.Cause(c.Inner()) != nil; ended != in {
			t.Errorf("context %d: ended is %t, want %t", i, ended, in)
		}
	}
	late := ownership.NewContext(context.Background(), lapsed)
	g.Add(late)
	if cause := context.Cause(late.Inner()); !errors.Is(cause, over) {
		t.Errorf("one that came late: %v", cause)
	}
}
