module github.com/tarbitrator/tarbitrator/tools/votebench

go 1.26.0

replace github.com/tarbitrator/tarbitrator => ../..

require (
	github.com/tarbitrator/tarbitrator v0.0.0-00010101000000-000000000000
	go.etcd.io/bbolt v1.5.0
)

require golang.org/x/sys v0.49.0 // indirect
