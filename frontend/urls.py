"""Everything a person opens in a browser."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from frontend.dashboard.views.home import home

urlpatterns = [
    path("", home, name="home"),
    path(
        "login/",
        LoginView.as_view(template_name="login.html", redirect_authenticated_user=True),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("console/", include("frontend.console.urls")),
    path("t/<slug:slug>/", include("frontend.dashboard.urls")),
]
