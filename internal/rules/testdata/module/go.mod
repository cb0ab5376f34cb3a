module github.com/conclavehq/conclave

go 1.26.0
