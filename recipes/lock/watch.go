package lock

import (
	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// Watch implements the method of the LockService.
func (i *instance) Watch(req *lockv1.WatchRequest, stream lockv1.LockService_WatchServer) error {
	return i.Service.Watch(stream.Context(), req, func(c service.Change) error {
		msg := &lockv1.WatchResponse{Revision: c.Revision, Initial: c.Initial, More: c.More}
		for _, n := range c.Names {
			if n.Idle() {
				msg.Locks = append(msg.Locks, &lockv1.Lock{Name: n.Text()})
			} else {
				msg.Locks = append(msg.Locks, lockOf(n))
			}
		}
		return stream.Send(msg)
	})
}
