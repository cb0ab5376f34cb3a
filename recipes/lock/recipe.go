package lock

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/lock/internal/history"
)

// name is the recipe's name and the segment of its keys, which it shares with
// the library.
const name = "lock"

// The defaults and limits of the configuration.
const (
	defaultEndings = 50
	defaultAge     = 30 * 24 * time.Hour
	leastAge       = time.Minute
)

// Recipe serves conclave.lock.v1.LockService. The zero value is ready.
type Recipe struct{}

var (
	_ recipe.Recipe    = Recipe{}
	_ recipe.Validator = Recipe{}
)

// Info describes the recipe. Its configuration is a conclave.lock.v1.Config.
func (Recipe) Info() recipe.Info {
	return recipe.Info{
		Name:    name,
		Version: "0.1.0",
		Summary: "Mutexes, read-write locks and semaphores, with fencing tokens and a history",
		Config:  &lockv1.Config{},
	}
}

// Validate implements [recipe.Validator] for a conclave.lock.v1.Config.
func (Recipe) Validate(config proto.Message) error {
	_, err := configOf(config)
	return err
}

// Open registers the LockService and starts the recorder of histories. It does
// no I/O. It fails for a configuration outside its limits, and for an instance
// that is not called "lock": users of the library would not meet it.
func (Recipe) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if env.Instance != name {
		return nil, fmt.Errorf("lock: instance: is %q, but the library's keys are under %q: run it under that name", env.Instance, name)
	}
	cfg, err := configOf(env.Config)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	i := newInstance(env, cfg)
	lockv1.RegisterLockServiceServer(reg, i)
	return i, nil
}

// config is the configuration with its defaults.
type config struct {
	endings int
	age     time.Duration
	off     bool // no history
}

func configOf(m proto.Message) (config, error) {
	cfg := config{endings: defaultEndings, age: defaultAge}
	c, ok := m.(*lockv1.Config)
	if !ok || c == nil {
		return cfg, nil
	}
	cfg.off = c.GetHistoryOff()
	if n := int(c.GetHistoryEndings()); n != 0 {
		cfg.endings = n
	}
	if cfg.endings < 1 || cfg.endings > history.MaxKeep {
		return cfg, fmt.Errorf("history_endings: %d is outside 1 to %d", cfg.endings, history.MaxKeep)
	}
	if c.GetHistoryAge() != nil {
		cfg.age = c.GetHistoryAge().AsDuration()
	}
	if cfg.age < leastAge {
		return cfg, fmt.Errorf("history_age: %v is less than %v", cfg.age, leastAge)
	}
	return cfg, nil
}
