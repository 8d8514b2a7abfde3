module lab/app

go 1.24
