package recipe_test

import (
	"context"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/coretest"
)

// patience bounds what must happen; no test passes or fails by being quicker.
const patience = 30 * time.Second

// etcd is the member that the package's tests share.
var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}
