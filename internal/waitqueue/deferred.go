package waitqueue

import (
	"context"
	"slices"
)

// announce notes on the names that p lets them go although its caller was told
// already. Requests of one session may overtake each other, so a try that comes
// after such a release has to wait for it.
func (p *pass) announce() {
	for i := range p.parts {
		n := p.parts[i].p.n
		n.mu.Lock()
		n.releases = append(n.releases, p)
		n.mu.Unlock()
	}
}

// denounce ends what announce began.
func (p *pass) denounce() {
	for i := range p.parts {
		n := p.parts[i].p.n
		n.mu.Lock()
		n.releases = slices.DeleteFunc(n.releases, func(q *pass) bool { return p == q })
		n.mu.Unlock()
	}
}

// afterReleases waits until the deferred releases of a's names that began
// before have ended.
func (a *acquisition) afterReleases(ctx context.Context) error {
	for i := range a.parts {
		n := a.parts[i].n
		n.mu.Lock()
		releases := slices.Clone(n.releases)
		n.mu.Unlock()
		for _, p := range releases {
			select {
			case <-p.finished:
			case <-ctx.Done():
				return waitError(ctx)
			}
		}
	}
	return nil
}
