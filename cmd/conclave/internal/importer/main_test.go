package importer_test

import (
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
)

func TestMain(m *testing.M) { coretest.Main(m, nil) }
