module gvt-bench-go

go 1.22
