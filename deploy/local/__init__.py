"""PostgreSQL and Redis out of Python wheels, for the demonstration and the tests.

They listen on Unix sockets that only the caller's account reaches. Anything that runs for real gives
DATABASE_URL and REDIS_URL instead and never comes here.
"""
