package service

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/history"
)

// The defaults and limits of a History.
const (
	defaultEndings = 50
	defaultAge     = 30 * 24 * time.Hour
	leastAge       = time.Minute
)

// A History says what is kept of a name's past.
type History struct {
	Endings int           // of a name
	Age     time.Duration // after which an idle name is forgotten
	Off     bool
}

// A PastConfig is the part of a recipe's configuration that HistoryOf reads.
type PastConfig interface {
	GetHistoryEndings() int32
	GetHistoryAge() *durationpb.Duration
	GetHistoryOff() bool
}

// HistoryOf reads a configuration, and fills in the defaults. The error names the
// field and its limit. A recipe that was given none passes the zero value of its
// own.
func HistoryOf(c PastConfig) (History, error) {
	h := History{Endings: defaultEndings, Age: defaultAge, Off: c.GetHistoryOff()}
	if n := int(c.GetHistoryEndings()); n != 0 {
		h.Endings = n
	}
	if h.Endings < 1 || h.Endings > history.MaxKeep {
		return h, fmt.Errorf("history_endings: %d is outside 1 to %d", h.Endings, history.MaxKeep)
	}
	if c.GetHistoryAge() != nil {
		h.Age = c.GetHistoryAge().AsDuration()
	}
	if h.Age < leastAge {
		return h, fmt.Errorf("history_age: %v is less than %v", h.Age, leastAge)
	}
	return h, nil
}

// A PastRequest asks for the past of a name.
type PastRequest interface {
	GetNamespace() string
	GetName() string
	GetLimit() int32
}

// Past answers a request for the past of a name.
func (s *Service) Past(ctx context.Context, req PastRequest) (history.Past, error) {
	space, err := s.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return history.Past{}, err
	}
	limit := int(req.GetLimit())
	if limit < 0 || limit > history.MaxKeep {
		return history.Past{}, Invalidf("limit", "%d is outside 0 to %d", limit, history.MaxKeep)
	}
	past, err := Bounded(ctx, func(ctx context.Context) (history.Past, error) {
		return history.Read(ctx, s.Env.Client, space, req.GetName())
	})
	if err != nil {
		return past, recipe.Status(err)
	}
	if limit == 0 || limit > s.past.Endings {
		limit = s.past.Endings
	}
	past.Endings = First(past.Endings, limit)
	if len(past.Endings) > 0 {
		s.Saw(space.Namespace())
	}
	return past, nil
}
